"""A run is one live view in a terminal, and lines in a log; real processes, in real terminals and without."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.test_progress import PROJECT, run_in_terminal

RUN = """
import logging, os, time
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
from prefect import flow
from core.progress import Report
from flows.view import DONE, FAILED, NOT_RUN, open_view
view = open_view("5 stages, 2 up to date", ["pretraining@luong", "comparisons", "report"])
view.started("pretraining@luong")
view.progress("pretraining@luong", Report("pretraining@luong", 1, 4, "epoch 1/2  loss 3.210  900 tokens/s", 119.9))
view.said("pretraining@luong", "pretraining@luong: epoch 1 of 2: [bold]")
time.sleep(0.6)
logging.getLogger("prefect").warning("the server is slow")
logging.getLogger("prefect.flow_runs").error("Encountered an exception", extra={"flow_run_id": None})
view.started("comparisons")
view.ended("comparisons", FAILED)
view.ended("report", NOT_RUN)
view.ended("pretraining@luong", DONE)
view.close()
"""


def text_of(written: str) -> str:
    return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", written)


def test_a_terminal_shows_what_is_done_what_runs_and_what_waits() -> None:
    written = run_in_terminal(RUN)
    shown = text_of(written)
    assert "5 stages, 2 up to date, 3 to run" in shown
    assert re.search(r"pretraining@luong   0:00:0\d  ━+╺━+ +25%  0:02:00 left", shown)
    assert "    epoch 1/2  loss 3.210  900 tokens/s" in shown
    assert re.search(r"0 done of 3 in 0:00:0\d  waiting: comparisons, report", shown)
    assert "✗ comparisons         0:00:00  failed" in shown
    assert "– report                       not run" in shown
    assert re.search(r"✓ pretraining@luong   0:00:0\d", shown)
    assert re.search(r"1 done, 1 failed, 1 not run of 3 in 0:00:0\d\r\n$", shown)
    assert "[bold]" not in shown, "a stage's own lines are in Prefect's log"
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l"), "the cursor is back"


def test_of_prefects_log_a_console_shows_warnings_about_prefect_alone() -> None:
    for shown in (run_in_terminal(RUN), in_log(RUN)):
        assert "the server is slow" in shown
        assert "Encountered an exception" not in shown
    assert "Encountered an exception" in in_log(RUN, PREFECT_LOGGING_LEVEL="INFO"), "what a user sets wins"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_unicode_shows_it_too(encoding: str) -> None:
    shown = text_of(run_in_terminal(RUN, PYTHONIOENCODING=encoding))
    assert "x comparisons         0:00:00  failed" in shown
    assert "25%  0:02:00 left" in shown


@pytest.mark.parametrize("columns", [1, 30])
def test_a_narrow_terminal_ends_no_run(columns: int) -> None:
    run_in_terminal(RUN, columns)


def test_a_log_has_a_line_for_each_start_and_end_and_what_stages_say() -> None:
    first, *lines, last = [line for line in in_log(RUN).splitlines() if "server is slow" not in line]
    assert first == "5 stages, 2 up to date, to run: comparisons, pretraining@luong, report"
    assert all(re.match(r"\d\d:\d\d:\d\d  ", line) for line in lines)
    assert [line.partition("  ")[2] for line in lines] == [
        "pretraining@luong  starts",
        "pretraining@luong  epoch 1 of 2: [bold]",
        "comparisons        starts",
        "comparisons        failed in 0:00:00",
        "report             not run",
        "pretraining@luong  done in 0:00:01",
    ]
    assert last == "1 done, 1 failed, 1 not run of 3 in 0:00:01"


def test_a_run_outlives_its_terminal(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    code = RUN.replace("time.sleep(0.6)", "input()") + f"open({str(tmp_path / 'trained')!r}, 'w')"
    code = (
        "import builtins\ndef input():\n  try: builtins.input()\n  except OSError: pass\n  except EOFError: pass\n"
        + code
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, env=os.environ | {"TERM": "xterm"},
        stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    os.close(terminal)
    while b"waiting" not in os.read(controller, 65536):
        pass
    os.close(controller)
    program.wait(60)
    assert (tmp_path / "trained").exists()


def in_log(code: str, **variables: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=os.environ | variables, text=True, check=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ).stdout  # fmt: skip
