"""A stage that is ended is ended with all its processes."""

import asyncio
import sys
import time

import psutil
import pytest

from flows import stages


def test_ending_a_group_ends_children_that_ignore_the_request_and_outlive_their_leader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "GRACE_SECONDS", 0.5)
    child = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    leader = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); print(p.pid, flush=True); p.wait()"

    async def main() -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", leader, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
        assert process.stdout
        lines = sorted([await process.stdout.readline(), await process.stdout.readline()])
        await stages._end(process)
        return int(lines[0])

    pid = asyncio.run(main())
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
