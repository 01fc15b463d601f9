"""A bar says how far a computation is and how long it takes, and ends none: real processes, in real terminals and without."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from core import progress
from core.progress import Progress, Report, clock, describe, read_report, track

PROJECT = Path(__file__).parents[2]
TRAINING = """
import sys, time
from core.progress import Progress
bar = Progress("pretraining@luong", 4)
for step in range(5):
    bar.update(step, "epoch 1/1  loss 1.234")
    if step == 2:
        print("pretraining@luong: epoch 1 of 1: validation_loss 1.5")
    time.sleep(0.25)
print("trained")
"""


def run_in_terminal(code: str, columns: int = 100, **variables: str) -> str:
    """What a Python program writes to a terminal of so many columns; it must end well."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | {"TERM": "xterm"} | variables
    program = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    written = b""
    try:
        while block := os.read(controller, 65536):
            written += block
    except OSError:  # the program has ended, and the terminal with it
        pass
    os.close(controller)
    assert program.wait(60) == 0, written.decode(errors="replace")
    return written.decode(variables.get("PYTHONIOENCODING", "utf-8"))


def screen(written: str) -> list[str]:
    """The lines that a terminal shows after all carriage returns and erasures."""
    return [line.split("\r\x1b[K")[-1] for line in written.rstrip().split("\r\n")]


def test_a_terminal_has_one_bar_and_every_printed_line_whole() -> None:
    written = run_in_terminal(TRAINING)
    printed, bar, end = screen(written)
    assert printed == "pretraining@luong: epoch 1 of 1: validation_loss 1.5"
    assert bar == f"pretraining@luong  {'█' * 24} 100%  epoch 1/1  loss 1.234"
    assert end == "trained"
    assert "  25%  0:00:01 left  epoch 1/1" in written


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_block_characters_gets_others(encoding: str) -> None:
    assert "############------------  50%" in run_in_terminal(TRAINING, PYTHONIOENCODING=encoding)
    title = TRAINING.replace("pretraining@luong", "übersetzen→")
    assert "bersetzen?" in run_in_terminal(title.replace("print(", "0 and print("), PYTHONIOENCODING=encoding)


@pytest.mark.parametrize("columns", [0, 1, 20, 40])
def test_a_bar_never_fills_a_narrow_terminals_line(columns: int) -> None:
    bars = run_in_terminal(TRAINING, columns).replace("\r\n", "\n").split("\r\x1b[K")
    assert all(len(bar.splitlines()[0]) < (columns or 80) for bar in bars if bar.startswith("pretraining@luong  "))


def test_a_training_outlives_whoever_reads_its_output() -> None:
    code = "import sys; from core.progress import Progress; bar = Progress('a', 9000)\n" + (
        "for step in range(9001): bar.update(step, 'x' * 100)\nprint('trained'); sys.stderr.write('trained')"
    )
    environment = os.environ | {progress.REPORTS_VARIABLE: "", "GRADUS_PROGRESS_SECONDS": "0"}
    training = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert training.stdout
    training.stdout.readline()
    training.stdout.close()
    assert training.communicate(timeout=60)[1] == b"trained"
    assert training.returncode == 0


@pytest.mark.parametrize("without", ["sys.stdout.close()", "sys.stdout = None"])
def test_a_training_needs_no_output(without: str) -> None:
    code = f"import sys; from core.progress import Progress; {without}; Progress('a', 1).update(1)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    bar = Progress("long_lag@task-2a", 100)
    for step in range(101):
        bar.update(step, f"{step} sequences")
        now += 1.0
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(" {2,}", line)[-1] for line in lines] == [f"{n} sequences" for n in (0, 30, 60, 90, 100)]
    assert "  30%  0:01:10 left  30 sequences" in lines[1]


def test_the_time_left_is_unknown_before_the_first_step_and_counts_this_runs_steps_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    bar = Progress("resumed", 200)
    bar.update(100)
    now = 3.0
    bar.update(101)
    first, second = capsys.readouterr().out.splitlines()
    assert "left" not in first
    assert second.endswith("0:04:57 left")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0:00:00"), (119.9, "0:02:00"), (3599.6, "1:00:00"), (360_000, "100:00:00")]
)
def test_time_is_hours_minutes_and_seconds_rounded(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_a_bar_is_full_only_at_the_end() -> None:
    assert "░  99%" in describe(Report("a", 9999, 10000))


def test_a_flow_reads_what_its_stage_reports(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(progress.REPORTS_VARIABLE, "1")
    assert list(track(["a", "b"], "scoring ünïcödé")) == ["a", "b"]
    first, last = map(read_report, capsys.readouterr().out.splitlines())
    assert first == Report("scoring ünïcödé", 0, 2)
    assert last == Report("scoring ünïcödé", 2, 2)
    assert (
        read_report("reward_model@grouped: epoch 1")
        is read_report("@progress {")
        is read_report("@progress {}")
        is None
    )
