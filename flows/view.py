"""What a person sees of a run: one live view in a terminal, lines in a log.

The whole output of every stage is in Prefect's log, which its UI shows. A view raises nothing: a run does not end with its terminal.
"""

import contextlib
import functools
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from core.progress import WIDTH, Report, clock, in_terminal, say

DONE, FAILED, NOT_RUN = "done", "failed", "not run"  # what becomes of a stage
REFRESHES_PER_SECOND = 4

Method = TypeVar("Method", bound=Callable[..., None])


def _harmless(method: Method) -> Method:
    @functools.wraps(method)
    def call(*arguments: Any) -> None:
        with contextlib.suppress(Exception):  # whatever becomes of a terminal, the run continues
            method(*arguments)

    return cast(Method, call)


class View:
    """The view of a log: a line when a stage starts and when it ends, and what it says meanwhile."""

    def __init__(self, title: str, to_run: Collection[str]) -> None:
        self.title, self.waiting = title, dict.fromkeys(sorted(to_run))
        self.to_run, self.began = len(to_run), time.monotonic()
        self.running: dict[str, float] = {}  # when each began
        self.outcomes = Counter({DONE: 0})
        self.width = max(map(len, to_run), default=0)

    @_harmless
    def open(self) -> None:
        """Begins to show the run."""
        say(self.title + (f", to run: {', '.join(self.waiting)}" if self.waiting else ""))

    @_harmless
    def started(self, stage: str) -> None:
        """A stage has begun to run."""
        self.waiting.pop(stage, None)
        self.running[stage] = time.monotonic()
        self.show_start(stage)

    @_harmless
    def ended(self, stage: str, outcome: str) -> None:
        """A stage has become DONE or FAILED, or will not run."""
        self.waiting.pop(stage, None)
        self.outcomes[outcome] += 1
        began = self.running.pop(stage, None)
        self.show_end(stage, outcome, "" if began is None else clock(time.monotonic() - began))

    @_harmless
    def progress(self, stage: str, report: Report) -> None:
        """A stage has come further."""

    @_harmless
    def said(self, stage: str, line: str) -> None:
        """A stage has printed a line, or it is time for a line about its progress."""
        say(self._line(stage, line.removeprefix(stage).removeprefix(":").strip()))

    @_harmless
    def close(self) -> None:
        """Ends the view."""
        say(self.total())

    def total(self) -> str:
        """How many stages have ended so far, how, and in what time."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items())
        return f"{counts} of {self.to_run} in {clock(time.monotonic() - self.began)}"

    def show_start(self, stage: str) -> None:
        say(self._line(stage, "starts"))

    def show_end(self, stage: str, outcome: str, took: str) -> None:
        say(self._line(stage, f"{outcome} {took and f'in {took}'}".strip()))

    def _line(self, stage: str, text: str) -> str:
        return f"{time.strftime('%H:%M:%S')}  {stage:<{self.width}}  {text}"


class LiveView(View):
    """The view of a terminal: a line for each stage that has ended, and under them what runs and what waits, redrawn in place."""

    def __init__(self, title: str, to_run: Collection[str]) -> None:
        super().__init__(title, to_run)
        self.reports: dict[str, Report] = {}
        self.console = Console(markup=False, highlight=False)
        unicode = not self.console.options.ascii_only
        self.symbols = dict(zip((DONE, FAILED, NOT_RUN), "✓✗–" if unicode else "+x-", strict=True))
        self.spinner = Spinner("dots" if unicode else "line")
        self.live = Live(
            get_renderable=self.render,
            console=self.console,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
        )

    @_harmless
    def open(self) -> None:
        for handler in _prefect_handlers():
            handler.console = self.console  # its warnings belong above what is redrawn
        self.console.print(f"{self.title}, {self.to_run} to run")
        self.live.start()

    @_harmless
    def progress(self, stage: str, report: Report) -> None:
        self.reports[stage] = report

    @_harmless
    def said(self, stage: str, line: str) -> None:
        pass  # Prefect's log has it

    @_harmless
    def close(self) -> None:
        self.live.stop()
        self.console.print(self.total())

    def show_start(self, stage: str) -> None:
        pass  # the next drawing has it

    def show_end(self, stage: str, outcome: str, took: str) -> None:
        style = {DONE: "green", FAILED: "bold red", NOT_RUN: "yellow"}[outcome]
        line = Text.assemble((self.symbols[outcome], style), f" {stage:<{self.width}}  {took:>8}")
        self.console.print(line if outcome == DONE else line.append(f"  {outcome}", style))

    def render(self) -> RenderableType:
        """What is redrawn: two lines for each stage that runs, one for the rest."""
        now = time.monotonic()
        lines: list[RenderableType] = []
        for stage, began in list(self.running.items()):
            report = self.reports.get(stage)
            lines.append(self._running(stage, clock(now - began), report))
            if report:
                phase = report.title.removeprefix(stage).strip()  # such as "writes"
                lines.append(_cut("    " + "  ".join(filter(None, (phase, report.facts))), "dim"))
        waiting = f"  waiting: {', '.join(self.waiting)}" if self.waiting else ""
        lines.append(_cut(f"{self.total()}{waiting}", "bold"))
        return Group(*lines)

    def _running(self, stage: str, took: str, report: Report | None) -> Table:
        row = Table.grid(padding=(0, 1, 0, 0))
        cells: list[RenderableType] = [self.spinner, f"{stage:<{self.width}}  {took:>8}"]
        if report:
            bar = ProgressBar(report.total, report.done, width=WIDTH)
            cells += ["", bar, f"{report.percent():3}%", "", _cut(report.left())]
        row.add_row(*cells)
        return row


def _cut(text: str, style: str = "") -> Text:
    """Text that ends with the terminal's line."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def open_view(title: str, to_run: Collection[str]) -> View:
    """The view of a run of the stages `to_run`; what Prefect logs does not repeat it."""
    quiet_prefect()
    view = (LiveView if in_terminal() else View)(title, to_run)
    view.open()
    return view


def quiet_prefect() -> None:
    """Leaves to Prefect's console warnings about itself: a view shows flows and stages. PREFECT_LOGGING_LEVEL brings its log back."""
    if "PREFECT_LOGGING_LEVEL" not in os.environ:
        for handler in _prefect_handlers():
            handler.addFilter(_about_prefect_itself)


def _about_prefect_itself(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING and not record.name.startswith(("prefect.flow_runs", "prefect.task_runs"))


def _prefect_handlers() -> list[PrefectConsoleHandler]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, PrefectConsoleHandler)]
