"""Section `long_lag`: trials of the tasks of "Long Short-Term Memory" (Hochreiter & Schmidhuber 1997)."""

from typing import Any, Literal

from pydantic import Field, field_validator

from core.config import Config
from stages.configs import PARAMS, ItemName


class LongLagTaskConfig(Config):
    """Trials of one task of the 1997 paper, e.g. `{task: 2c, settings: {q: 50, p: 50}}`."""

    task: str
    """Its number in the paper: 1, 2a, 2b, 2c, 3a, 3b, 3c, 4, 5, 6a or 6b."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What differs from the paper's task."""
    variant: Literal["paper", "forget_gate"] = "paper"
    """`paper`: the memory block of 1997. `forget_gate`: `torch.nn.LSTM`."""
    trials: int = Field(default=10, ge=1)
    """Trials: trainings that differ in their seeds."""
    sequences: int = Field(default=100_000, ge=1)
    """Training sequences after which a trial that has not succeeded has failed."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of its trials. `null`: the run's."""


class LongLagConfig(Config):
    """The tasks of "Long Short-Term Memory" (Hochreiter & Schmidhuber 1997)."""

    tasks: dict[ItemName, LongLagTaskConfig] = Field(min_length=1)
    """One line for each: a name, and its keys."""

    @field_validator("tasks")
    @classmethod
    def _tasks_exist(cls, tasks: dict[str, LongLagTaskConfig]) -> dict[str, LongLagTaskConfig]:
        from data import long_lag  # with numpy, which most stages do not need

        for name, config in tasks.items():
            task = long_lag.task(config.task, config.settings, f"{PARAMS}: long_lag.tasks.{name}")
            if config.variant == "forget_gate" and task.update == "step":
                raise ValueError(
                    f"{name}: the variant 'forget_gate' learns a sequence at a time: settings: {{update: sequence}}"
                )
            ignored = task.network_changes.model_fields_set - {"blocks", "cells", "initial"}
            if config.variant == "forget_gate" and ignored:
                raise ValueError(
                    f"{name}: settings: network: {', '.join(sorted(ignored))}: no use in the variant 'forget_gate', which is "
                    "torch.nn.LSTM of blocks x cells cells"
                )
        return tasks
