"""The weights that a training ends with: those of its last validations, averaged, or of its best one."""

import math
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file

from core.folders import file_hash, finished_file
from lightning_modules.training.config import TrainingConfig
from stages.framework.stage import CHECKPOINTS_KEPT

MONITOR = "validation_loss"  # decides how long to train and which weights to keep


class KeptWeights(pl.Callback):
    """Saves the trained weights of each validation that the final weights may come from.

    The final weights are the mean of those of the last `average_last` validations (Vaswani et al. 2017, 6.1). With early stopping, and no
    more than one to average, they are those of the validation with the lowest loss.

    The weights of a validation are a file in the checkpoints' folder, as long as a checkpoint needs it. A resumed training writes those
    after its checkpoint again.
    """

    def __init__(self, folder: Path, config: TrainingConfig) -> None:
        self.folder, self.average_last = folder, config.average_last
        self.keeps_best = bool(config.early_stopping_patience)
        self.losses: dict[int, float] = {}  # validation loss by update, of the validations to keep
        self._digests: dict[int, str] = {}  # checksums of their files, in the process that writes them
        # Updates whose files a checkpoint needs: of all that are kept, and of the next one.
        self._needed: deque[list[int]] = deque(maxlen=CHECKPOINTS_KEPT + 1)

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
                self._digests[trainer.global_step] = file_hash(partial)
        self.losses[trainer.global_step] = loss

    def steps(self) -> list[int]:
        """The updates whose weights make the final ones."""
        return list(self.losses)[-self.average_last :]

    def checksums(self) -> dict[str, str]:
        """The checksum of each file of these weights, by its name."""
        return {self._file(step).name: self._digests[step] for step in self.steps()}

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
        self._needed.append(self.steps())
        needed = {self._file(step) for steps in self._needed for step in steps}
        for file in set(self.folder.glob("weights-*")) - needed:
            file.unlink(missing_ok=True)  # several processes may remove it at once
        return {"losses": self.losses, "needed": list(self._needed), "digests": self._digests}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses, self._digests = state["losses"], state["digests"]
        self._needed.extend(state["needed"])

    def _file(self, step: int) -> Path:
        return self.folder / f"weights-{step:09d}.safetensors"


def _trained(module: pl.LightningModule) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)
