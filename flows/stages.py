"""A stage as a Prefect task."""

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import AsyncIterator

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from core import progress
from flows.repro import Repro, StageProcess
from flows.view import View

LAST_LINES = 15
GRACE_SECONDS = 10.0
BLOCK = 2**16  # bytes of output read at once, and kept of an unfinished line
# A stage reports its progress, other bars are off, and this process reads UTF-8 whatever its terminal shows.
OUTPUT = {progress.REPORTS_VARIABLE: "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONIOENCODING": "utf-8"}


class StageFailed(RuntimeError):
    """A stage ended with an error; the message has its last lines."""


@task(task_run_name="{stage}", cache_policy=NO_CACHE)  # dvc alone decides what is up to date
async def run_stage(stage: str, timeout_minutes: float, variables: dict[str, str], view: View, repro: Repro) -> None:
    """Runs one stage if dvc finds it changed; its output is the task's log, and `view` shows how far it is.

    Raises:
        StageFailed: it ended with an error, or took longer than `timeout_minutes`; its whole process group is ended then.
    """
    view.started(stage)
    process = await repro.start(stage, {**variables, **OUTPUT})
    lines: deque[str] = deque(maxlen=LAST_LINES)
    try:
        async with asyncio.timeout(timeout_minutes * 60):
            await _follow(process.stdout, stage, view, lines)
            code = await process.wait()
    except TimeoutError:
        raise StageFailed(
            f"stage {stage}: not done after {timeout_minutes:g} minutes (pipeline.timeout_minutes in params.yaml)"
        ) from None
    finally:
        await _end(process)
    if code:
        outcome = "was killed" if code < 0 else "failed"
        raise StageFailed("\n".join([f"stage {stage} {outcome}. Its last lines:", *lines]))


async def _follow(output: asyncio.StreamReader, stage: str, view: View, last_lines: deque[str]) -> None:
    """Gives the task's log and the view what a stage prints, and its progress: to the view at once, else now and then."""
    logger, next_line = get_run_logger(), time.monotonic() + progress.SECONDS_BETWEEN_LINES
    async for line in _lines(output):
        if report := progress.read_report(line):
            view.progress(stage, report)
            if time.monotonic() < next_line:
                continue
            next_line = time.monotonic() + progress.SECONDS_BETWEEN_LINES
            line = progress.describe(report)
        else:
            last_lines.append(line)
        logger.info(line)
        view.said(stage, line)


async def _lines(output: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines of a stream that are not empty; of a line that is redrawn in place, however often, its last state."""
    rest = b""
    while block := await output.read(BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if text := line.decode(errors="replace").rstrip().rpartition("\r")[2]:
                yield text
        rest = rest[rest.rstrip(b"\r").rfind(b"\r") + 1 :][-BLOCK:]
    if rest:
        yield rest.decode(errors="replace")


async def _end(process: StageProcess) -> None:
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
