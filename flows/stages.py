"""A stage as a Prefect task: `dvc repro --single-item` in a process of its own."""

import asyncio
import contextlib
import os
import signal
from collections import deque

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.graph import dvc, environment

LAST_LINES = 15
GRACE_SECONDS = 10.0


class StageFailed(RuntimeError):
    """A stage ended with an error; the message has its last lines."""


@task(task_run_name="{stage}", cache_policy=NO_CACHE)  # dvc alone decides what is up to date
async def run_stage(stage: str, timeout_minutes: float, variables: dict[str, str]) -> None:
    """Runs one stage if dvc finds it changed; its output is the task's log.

    Raises:
        StageFailed: it ended with an error, or took longer than `timeout_minutes`; its whole process group is ended then.
    """
    logger = get_run_logger()
    process = await asyncio.create_subprocess_exec(
        *dvc("repro", "--quiet", "--single-item", stage),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment(**variables),
        start_new_session=True,  # dvc would leave its stage alone when ended: the group is ended as one
        limit=2**20,
    )
    assert process.stdout
    lines: deque[str] = deque(maxlen=LAST_LINES)
    try:
        async with asyncio.timeout(timeout_minutes * 60):
            async for raw in process.stdout:
                line = (
                    raw.decode(errors="replace").rstrip().rpartition("\r")[2]
                )  # of a bar redrawn in place, the last state
                if line:
                    lines.append(line)
                    logger.info(line)
            code = await process.wait()
    except TimeoutError:
        raise StageFailed(
            f"stage {stage}: not done after {timeout_minutes:g} minutes (pipeline.timeout_minutes in params.yaml)"
        ) from None
    finally:
        await _end(process)
    if code:
        raise StageFailed("\n".join([f"stage {stage} failed (exit code {code}). Its last lines:", *lines]))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends what is left of a stage's process group, whether or not its leader still runs: asks, waits, kills."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signum)
            for _ in range(int(GRACE_SECONDS / 0.1)):
                if process.returncode is None:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(process.wait(), 0.1)
                else:
                    await asyncio.sleep(0.1)
                os.killpg(process.pid, 0)
        except ProcessLookupError:  # nobody is left in the group
            return
