"""A training that diverged ends at its next validation, instead of hours later."""

import math
from typing import Any

import pytorch_lightning as pl

from core.errors import DivergedError
from core.progress import say
from lightning_modules.training.config import TrainingConfig
from stages.training.kept_weights import MONITOR

FIRST_UPDATES = 10  # whose lowest loss is where a training began: one of them may have diverged already
REMEDY = "Lower training.learning_rate, or set training.max_grad_norm."


class Divergence(pl.Callback):
    """Compares the loss of each validation with that of the first updates.

    A training that diverged ends with an error. One that stops early keeps the weights of its best validation: it only stops.
    A training that continues from well-trained weights may begin near 0, and every change is many times that: a first loss below 1
    counts as 1.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._first_losses: list[float] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if len(self._first_losses) < FIRST_UPDATES:
            self._first_losses.append(float(trainer.strategy.reduce(outputs["train_loss"], reduce_op="mean")))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        try:
            self.check(float(trainer.callback_metrics[MONITOR]))
        except DivergedError as error:
            if not self._config.early_stopping_patience:
                raise
            say(f"stops early: {error}")
            trainer.should_stop = True

    def check(self, loss: float) -> None:
        """Raises DivergedError when a validation loss is not finite, or too far above where training began."""
        if not math.isfinite(loss):
            raise DivergedError(f"training diverged: its validation loss is {loss}. {REMEDY}")
        ratio = self._config.max_loss_ratio
        if ratio is None or not self._first_losses:
            return
        first = max(1.0, min(self._first_losses))
        if loss > ratio * first:
            raise DivergedError(
                f"training diverged: its validation loss is {loss:.4g}, over {ratio:g} times {first:.4g}, where it began "
                f"(training.max_loss_ratio). {REMEDY}"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"first_losses": self._first_losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._first_losses = state["first_losses"]
