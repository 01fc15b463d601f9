"""How long the updates of `transformers.Trainer` take, and of those made from it."""

import time
from typing import Any

from transformers import TrainerCallback


class TrainerClock(TrainerCallback):
    """Seconds of each update so far."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.seconds.append(-time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds[-1] += time.perf_counter()
