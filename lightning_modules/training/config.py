"""How long and how to train: the config that every trained model has."""

from typing import Literal

from pydantic import Field

from core.config import Config

Precision = Literal["auto", "32-true", "bf16-mixed"]
Optimizer = Literal["adam", "adamw", "sgd", "adadelta"]
Schedule = Literal["constant", "noam", "cosine", "linear", "halving"]


class TrainingConfig(Config):
    """How long and how to optimize; every trained model has one."""

    num_train_epochs: int = Field(default=1, ge=1)
    optimizer: Optimizer = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)  # for the schedule "noam" a factor before its formula
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(default=0.0, ge=0)
    lr_scheduler_type: Schedule = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    min_lr_rate: float = 0.1  # "cosine": the share of the learning rate reached at the end
    halve_after: float = 5  # "halving": epochs at the full rate
    halve_every: float = Field(default=1, gt=0)  # "halving": epochs between two halvings after that
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    early_stopping_patience: int | None = Field(
        default=None, ge=1
    )  # validations without a lower loss before training ends early
    average_last: int = Field(
        default=1, ge=1
    )  # the trained weights are the mean of those at this many last validations
    # Products in bf16, weights and sums in single: "auto" where a GPU has it, "bf16" where a CPU has it, too, "single" nowhere.
    precision: Precision = "auto"


class TokenTrainingConfig(TrainingConfig):
    """Training in batches of a number of tokens: everything but reward models, whose batches are rankings."""

    batch_tokens: int = Field(default=2048, ge=1)  # of one update, padding included
