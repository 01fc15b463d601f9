"""How long and how to train: the config that every trained model has."""

from typing import Literal

from pydantic import Field

from core.config import Settings

Precision = Literal["auto", "single", "bf16"]
Optimizer = Literal["adam", "adamw", "sgd", "adadelta"]
Schedule = Literal["constant", "noam", "cosine", "linear", "halving"]


class OptimizationSettings(Settings):
    """How long and how to optimize; every trained model has one."""

    epochs: int = Field(default=1, ge=1)
    tokens_per_batch: int = Field(default=2048, ge=1)  # padded cells of one update
    optimizer: Optimizer = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)  # for the schedule "noam" a factor before its formula
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Schedule = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    final_share: float = 0.1  # "cosine": the share of the learning rate reached at the end
    halve_after: float = 5  # "halving": epochs at the full rate
    halve_every: float = Field(default=1, gt=0)  # "halving": epochs between two halvings after that
    clip_norm: float | None = Field(default=1.0, gt=0)
    patience: int | None = Field(default=None, ge=1)  # validations without a lower loss before training ends early
    averaged: int = Field(default=1, ge=1)  # the trained weights are the mean of those at this many last validations
    # Products in bf16, weights and sums in single: "auto" where a GPU has it, "bf16" where a CPU has it, too, "single" nowhere.
    precision: Precision = "auto"
