"""How long and how to train: the config that every trained model has."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from core.config import Config

Precision = Literal["auto", "32-true", "bf16-mixed"]
Optimizer = Literal["adam", "adamw", "sgd", "adadelta"]
Schedule = Literal["constant", "noam", "cosine", "linear", "halving"]
READ_WITH = {  # keys that only some optimizers or schedules read: the key that chooses, and its values that read them
    "betas": ("optimizer", ("adam", "adamw")),
    "min_lr_rate": ("lr_scheduler_type", ("cosine",)),
    "halve_after": ("lr_scheduler_type", ("halving",)),
    "halve_every": ("lr_scheduler_type", ("halving",)),
}


class TrainingConfig(Config):
    """How long and how to optimize; every trained model has one."""

    num_train_epochs: int = Field(default=1, ge=1)
    """Times that all training data is seen."""
    optimizer: Optimizer = "adam"
    """`adam` has epsilon 1e-9 (Vaswani et al. 2017, 5.3), `adamw` 1e-8, `adadelta` rho 0.95 and epsilon 1e-6 (Cho et al. 2014, 4.1)."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """The highest learning rate. With `lr_scheduler_type: noam` a factor before its formula."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Only with `adam` and `adamw`: decay rates of the two moments."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay; decoupled from the gradient with `adamw`."""
    lr_scheduler_type: Schedule = "constant"
    """`noam`: Vaswani et al. (2017), eq. 3; d_model: the states' width. `cosine`, `linear`: down from the highest. `halving`: see `halve_after`."""
    warmup_steps: int = Field(default=0, ge=0)
    """Updates over which the learning rate rises linearly: update n of them has n / warmup_steps of it."""
    min_lr_rate: float = 0.1
    """Only with `cosine`: the share of the highest learning rate that is left at the end."""
    halve_after: float = 5
    """Only with `halving`: epochs at the full rate. Sutskever et al. (2014, 3.4): 5."""
    halve_every: float = Field(default=1, gt=0)
    """Only with `halving`: epochs between two halvings after that. Sutskever et al. (2014, 3.4): 0.5."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """A longer gradient is scaled to this norm. `null`: no limit."""
    max_loss_ratio: float | None = Field(default=10.0, gt=1)
    """Training ends with an error at a validation whose loss is more than this many times the lowest of the first 10 updates, or not finite.
    `null`: only where it is not finite."""
    early_stopping_patience: int | None = Field(default=None, ge=1)
    """Validations without a lower loss after which training ends. `null`: it never ends early."""
    average_last: int = Field(default=1, ge=1)
    """The final weights are the mean of the weights of the last N validations (Vaswani et al. 2017, 6.1); this is N."""
    precision: Precision = "auto"
    """`bf16-mixed`: matrix products in bf16, all else in float32. `32-true`: float32. `auto`: `bf16-mixed` on a GPU that has bf16, else `32-true`."""

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        for key, (choosing, readers) in READ_WITH.items():
            value, chosen = getattr(self, key), getattr(self, choosing)
            if chosen not in readers and value != type(self).model_fields[key].default:
                raise ValueError(
                    f"{key} is read with {choosing} {' and '.join(readers)} only, and this one is {chosen}: leave it out"
                )
        return self


class TokenTrainingConfig(TrainingConfig):
    """Training in batches of a number of tokens: everything but reward models, whose batches are rankings."""

    batch_tokens: int = Field(default=2048, ge=1)
    """Tokens of one update."""


def without_unread(training: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """`training` without the keys that the optimizer and schedule that `chosen` names do not read.

    A variant takes over from `common` what its own optimizer and schedule read.
    """
    unread = {
        key for key, (choosing, readers) in READ_WITH.items() if choosing in chosen and chosen[choosing] not in readers
    }
    return {key: value for key, value in training.items() if key not in unread}
