"""Progress bars that a person can follow on a terminal and in the log of a flow run."""

import sys
import time

WIDTH = 24
SECONDS_BETWEEN_LINES = 5.0  # in a log; a terminal's line is redrawn at most every SECONDS_BETWEEN_DRAWS
SECONDS_BETWEEN_DRAWS = 0.2


class Progress:
    """A bar for `total` steps of one stage: a line redrawn on a terminal, a new line now and then elsewhere."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total = title, max(1, total)
        self.started = time.monotonic()
        self.first: int | None = None
        self.drawn = 0.0
        self.terminal = sys.stdout.isatty()

    def update(self, done: int, facts: str = "") -> None:
        """Shows that `done` steps are behind us, with a few facts such as the loss."""
        if self.first is None:  # a resumed run starts in the middle
            self.first, self.started = max(0, done - 1), time.monotonic()
        now = time.monotonic()
        pause = SECONDS_BETWEEN_DRAWS if self.terminal else SECONDS_BETWEEN_LINES
        if done < self.total and now - self.drawn < pause:
            return
        self.drawn = now
        share = min(1.0, done / self.total)
        filled = round(share * WIDTH)
        left = (now - self.started) / max(1, done - self.first) * (self.total - done)
        line = f"{self.title}  {'█' * filled}{'░' * (WIDTH - filled)} {share:4.0%}  {facts}  {left // 60:.0f}:{left % 60:02.0f} left"
        print(
            f"\r\x1b[K{line}" if self.terminal else line,
            end="\n" if done >= self.total or not self.terminal else "",
            flush=True,
        )
