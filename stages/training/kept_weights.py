"""The weights that a training ends with: those of its last validations, averaged, or of its best one."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file

from core.folders import finished_file
from lightning_modules.training.config import TrainingConfig

MONITOR = "validation_loss"  # decides how long to train and which weights to keep


class KeptWeights(pl.Callback):
    """Keeps the trained weights of the validations that the final weights are made of.

    These are the last `average_last` validations, whose mean is taken (Vaswani et al. 2017, 6.1). With a patience and nothing to
    average it is the validation of the lowest loss.

    Each validation is one file in the checkpoints' folder. A resumed training writes those after its checkpoint again.
    """

    def __init__(self, folder: Path, config: TrainingConfig) -> None:
        self.folder, self.average_last = folder, config.average_last
        self.keeps_best = bool(config.early_stopping_patience)
        self.losses: dict[int, float] = {}  # validation loss by update, of the validations to keep
        self._previous_steps: set[int] = set()  # of the checkpoint before the newest

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (self.average_last == 1 and not self.keeps_best) or trainer.global_step in self.losses:
            return
        loss = float(trainer.callback_metrics[MONITOR])
        if not math.isfinite(loss):  # the training diverged: the weights from before are the final ones
            return
        if self.average_last == 1 and self.losses and loss >= min(self.losses.values()):
            return
        if trainer.is_global_zero:
            with finished_file(self._file(trainer.global_step)) as partial:
                save_file({n: p.detach().contiguous() for n, p in _trained(pl_module)}, partial)
        self.losses[trainer.global_step] = loss

    def steps(self) -> list[int]:
        """The updates whose weights make the final ones."""
        return list(self.losses)[-self.average_last :]

    @torch.no_grad()
    def load(self, module: pl.LightningModule) -> bool:
        """Gives `module` the mean of the kept weights; False if its last weights are the final ones already."""
        files = [load_file(self._file(step)) for step in self.steps()]
        for name, parameter in _trained(module) if files else []:
            parameter.copy_(torch.stack([file[name].to(parameter) for file in files]).mean(0))
        return bool(files)

    def __str__(self) -> str:
        return f"update {self.steps()[0]}" if len(self.steps()) == 1 else f"the mean of updates {self.steps()}"

    def state_dict(self) -> dict[str, Any]:
        steps = set(self.steps())
        for file in set(self.folder.glob("weights-*")) - {self._file(step) for step in steps | self._previous_steps}:
            file.unlink(missing_ok=True)  # several processes may remove it at once
        self._previous_steps = steps
        return {"losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses = state["losses"]

    def _file(self, step: int) -> Path:
        return self.folder / f"weights-{step:09d}.safetensors"


def _trained(module: pl.LightningModule) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)
