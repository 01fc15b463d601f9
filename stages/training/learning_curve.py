"""The learning curve of a training: what a bar, tracking and the stage's output show of it."""

import time
from typing import Any

import pytorch_lightning as pl

from core.progress import Progress, say
from stages.framework.stage import Stage

STEPS_BETWEEN_METRICS = 10


class LearningCurve(pl.Callback):
    """Counts tokens and seconds of training, and reports losses to the progress bar and to tracking.

    Attributes:
        entries: one for each validation: `epoch`, `step`, mean `train_loss` since the one before, validation metrics.
        tokens: read by all training steps, as the module counts them.
        seconds: of training, without validations; a resumed training continues the count.
    """

    def __init__(self, stage: Stage, steps: int) -> None:
        self.stage = stage
        self.entries: list[dict[str, float]] = []
        self.tokens, self.seconds = 0, 0.0
        self._progress = Progress(stage.name, steps)
        self._last_step_end = 0.0
        self._train_losses: list[float] = []  # since the last validation

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_step_end = time.monotonic()  # the epoch of a resumed training has no start

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_step_end = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        self.seconds, self._last_step_end = self.seconds + now - self._last_step_end, now
        self.tokens += int(outputs["tokens"])
        self._train_losses.append(float(trainer.strategy.reduce(outputs["train_loss"], reduce_op="mean")))
        step = trainer.global_step
        rate = self.tokens / self.seconds
        self._progress.update(
            step,
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  loss {self._train_losses[-1]:.3f}  {rate:,.0f} tokens/s",
        )
        if step % STEPS_BETWEEN_METRICS == 0:
            recent = self._train_losses[-STEPS_BETWEEN_METRICS:]
            learning_rate = trainer.optimizers[0].param_groups[0]["lr"]
            self.stage.run.metrics(
                {"train_loss": sum(recent) / len(recent), "learning_rate": learning_rate, "tokens_per_second": rate},
                step,
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        entry = {
            "epoch": min(trainer.current_epoch + 1, trainer.max_epochs or 1),
            "step": trainer.global_step,
            "train_loss": sum(self._train_losses) / max(1, len(self._train_losses)),
            **metrics,
        }
        self._train_losses = []
        self.entries.append(entry)
        self.stage.run.metrics(metrics, trainer.global_step)
        values = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        say(f"{self.stage.name}: epoch {entry['epoch']}: {values}")

    def state_dict(self) -> dict[str, Any]:
        return {
            "entries": self.entries,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "train_losses": self._train_losses,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.entries, self.tokens, self.seconds = state["entries"], state["tokens"], state["seconds"]
        self._train_losses = state["train_losses"]
