"""A stage's output is followed, whatever it is, and a stage is ended with all its processes."""

import asyncio
import sys
import time
from collections import deque

import psutil
import pytest
from prefect.logging import disable_run_logger

from core import progress
from core.progress import Report
from flows import stages
from flows.view import View


class Seen(View):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("", ["a"])
        self.reports: list[Report] = []
        self.lines: list[str] = []

    def progress(self, stage: str, report: Report) -> None:
        self.reports.append(report)

    def said(self, stage: str, line: str) -> None:
        self.lines.append(line)


def follow(output: bytes) -> tuple[Seen, list[str]]:
    """What a view is told of a stage's output, and the last lines that would explain a failure."""

    async def main() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(output)
        reader.feed_eof()
        with disable_run_logger():
            await stages._follow(reader, "a", seen, last_lines)

    seen, last_lines = Seen(), deque[str](maxlen=stages.LAST_LINES)
    asyncio.run(main())
    return seen, list(last_lines)


def test_a_view_gets_every_report_and_the_log_one_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = b"".join(b'@progress {"title": "a", "done": %d, "total": 9}\n' % done for done in range(10))
    seen, last_lines = follow(b"a: starts\n\n" + reports + b"a: ends")
    assert [report.done for report in seen.reports] == list(range(10))
    assert seen.lines == last_lines == ["a: starts", "a: ends"]
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    seen, last_lines = follow(reports)
    assert len(seen.lines) == 10
    assert seen.lines[-1].endswith("100%")
    assert not last_lines, "progress explains no failure"


def test_a_bar_redrawn_for_hours_is_one_line_and_ends_no_stage() -> None:
    bar = b"".join(b"\rdownloading %7d of 9999999" % step for step in range(100_000))
    seen, _ = follow(b"before\n" + bar + b"\nafter\xff\n" + b"x" * 3_000_000)
    first, drawn, third, cut = seen.lines
    assert [first, drawn, third] == ["before", "downloading   99999 of 9999999", "after�"]
    assert cut == "x" * stages.BLOCK


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
