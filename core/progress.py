"""How far a long computation is: a bar in a terminal, a line now and then in a log, reports to the flow that runs a stage.

Nothing of this can end a training: what cannot be shown is not shown.
"""

import contextlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from dataclasses import asdict, dataclass
from typing import Any, TextIO, TypeVar, cast

REPORTS_VARIABLE = "GRADUS_PROGRESS_REPORTS"  # a flow sets it, and reads what `Progress` then prints with `read_report`
SECONDS_BETWEEN_LINES = float(os.environ.get("GRADUS_PROGRESS_SECONDS", "30"))  # of a log
SECONDS_BETWEEN_REPORTS = 0.5
SECONDS_BETWEEN_DRAWS = 0.2
WIDTH = 24
_MARK = "@progress "
_CLEAR_LINE = "\r\x1b[K"

T = TypeVar("T")


@dataclass(frozen=True)
class Report:
    """How far a computation is: `done` of `total` steps, facts such as the loss, and the seconds left where they can be told."""

    title: str
    done: int
    total: int
    facts: str = ""
    seconds_left: float | None = None

    def percent(self) -> int:
        """100 only at the end."""
        return min(100, 100 * self.done // self.total)

    def left(self) -> str:
        return "" if self.seconds_left is None else f"{clock(self.seconds_left)} left"


class Progress:
    """Shows how many of `total` steps are done; `update` never raises."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total = title, max(1, total)
        self._first: tuple[int, float] | None = (
            None  # steps and time of the first update: a resumed run starts in the middle
        )
        self._shown = -math.inf

    def update(self, done: int, facts: str = "") -> None:
        """Shows that `done` steps are done, with a few facts such as the loss. `update(0)` starts the clock of the time left."""
        with contextlib.suppress(Exception):  # whatever becomes of a terminal, the training continues
            self._update(done, facts)

    def _update(self, done: int, facts: str) -> None:
        now = time.monotonic()
        self._first = self._first or (done, now)
        if os.environ.get(REPORTS_VARIABLE):
            show, pause = _report, SECONDS_BETWEEN_REPORTS
        elif in_terminal():
            show, pause = _draw, SECONDS_BETWEEN_DRAWS
        else:
            show, pause = _log, SECONDS_BETWEEN_LINES
        if done < self.total and now - self._shown < pause:
            return
        self._shown = now
        steps, seconds = done - self._first[0], now - self._first[1]
        left = seconds / steps * (self.total - done) if steps > 0 and done < self.total else None
        show(Report(self.title, done, self.total, facts, left))


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """The items, with a bar of how many are done. `total` is their number, where they cannot tell it."""
    progress = Progress(title, len(cast(Sized, items)) if total is None else total)
    progress.update(0)
    for done, item in enumerate(items, start=1):
        yield item
        progress.update(done)


def read_report(line: str) -> Report | None:
    """What a stage reported in a line of its output; None of any other line."""
    try:
        return Report(**json.loads(line.removeprefix(_MARK))) if line.startswith(_MARK) else None
    except (ValueError, TypeError):
        return None


def describe(report: Report, columns: int | None = None) -> str:
    """A report as a line of text, at most `columns` long: what matters most is on its left."""
    filled = WIDTH * report.percent() // 100
    full, empty = ("█", "░") if _printable("█░") == "█░" else ("#", "-")
    bar = f"{full * filled}{empty * (WIDTH - filled)} {report.percent():3}%"
    return "  ".join(filter(None, (report.title, bar, report.left(), report.facts)))[:columns]


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def in_terminal() -> bool:
    """Whether standard output is a terminal in which a line can be redrawn."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """Prints a line. What standard output cannot encode is replaced; if nobody reads it any more, the line is dropped."""
    _write(f"{text}\n")


def _log(report: Report) -> None:
    say(describe(report))


def _report(report: Report) -> None:
    say(_MARK + json.dumps(asdict(report)))


def _draw(report: Report) -> None:
    if not isinstance(sys.stdout, _Screen):
        sys.stdout = cast(TextIO, _Screen(sys.stdout))
    last = report.done >= report.total
    _write(describe(report, shutil.get_terminal_size().columns - 1) + "\n" * last)
    cast(_Screen, sys.stdout).has_bar = not last


class _Screen:
    """Standard output in a terminal: the bar on its last line makes room for whatever is printed next."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self.has_bar = stream, False

    def write(self, text: str) -> int:
        if self.has_bar:
            self.has_bar = False
            self._stream.write(_CLEAR_LINE)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _write(text: str) -> None:
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(_printable(text))
        sys.stdout.flush()
    except OSError:
        # The text is still in the buffer, and would fail every later print and the end of the process.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ValueError:  # standard output is closed
        pass


def _printable(text: str) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return text.encode(encoding, "replace").decode(encoding)
