"""Checkpoints: a training that was killed continues from the last one, on a CPU bit by bit the same."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from core.folders import file_hash, finished_file
from core.processes import this_process
from stages.framework.stage import CHECKPOINTS_KEPT, SECONDS_BETWEEN_CHECKPOINTS


class Checkpoints(pl.Callback):
    """Saves model, optimizer, loader position and random state between two batches, every `SECONDS_BETWEEN_CHECKPOINTS`.

    A file is complete or absent: it is written under another name, synced, then renamed. Its checksum is in a file beside it, so
    a damaged checkpoint is recognised and the one before it is used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._saved_at = time.monotonic()
        self._random_states: list[dict[str, Any]] = []  # one for each process, of the checkpoint resumed from

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._random_states:
            # The number of processes may have changed.
            state = self._random_states[trainer.global_rank % len(self._random_states)]
            torch.set_rng_state(state["cpu"])
            if state["cuda"]:
                torch.cuda.set_rng_state_all(state["cuda"])
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Lightning cannot continue from a checkpoint that a validation would follow.
        batches = batch_idx + 1
        validation_follows = batches >= trainer.num_training_batches or batches % int(trainer.val_check_batch or 1) == 0
        due = time.monotonic() - self._saved_at >= SECONDS_BETWEEN_CHECKPOINTS
        if not validation_follows and trainer.strategy.reduce_boolean_decision(due, all=False):
            self.save(trainer)
            self._saved_at = time.monotonic()

    def save(self, trainer: pl.Trainer) -> None:
        """Writes step-N.ckpt and step-N.hash, and removes all but the `CHECKPOINTS_KEPT` newest."""
        target = self.folder / f"step-{trainer.global_step:09d}.ckpt"
        if not trainer.is_global_zero:
            trainer.save_checkpoint(target)  # writes nothing: the state of all processes is gathered
            return
        with finished_file(target) as partial:
            trainer.save_checkpoint(partial)
            digest = file_hash(partial)
        with finished_file(_checksum(target)) as partial:
            partial.write_text(digest)
        for old in sorted(self.folder.glob("step-*.ckpt"))[:-CHECKPOINTS_KEPT]:
            old.unlink()
            _checksum(old).unlink(missing_ok=True)

    def latest(self) -> Path | None:
        """The newest undamaged checkpoint."""
        for path in sorted(self.folder.glob("step-*.ckpt"), reverse=True):
            if _checksum(path).exists() and _checksum(path).read_text() == file_hash(path):
                return path
        return None

    def remove(self) -> None:
        """Removes the folder, and those that the same stage left behind for other inputs."""
        stage = self.folder.name.rpartition("-")[0]
        for folder in self.folder.parent.glob(f"{stage}-*"):
            if folder.name.rpartition("-")[0] == stage:
                shutil.rmtree(folder, ignore_errors=True)

    def state_dict(self) -> dict[str, Any]:
        state = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        states = [state] * this_process().world_size
        if this_process().world_size > 1:
            torch.distributed.all_gather_object(states, state)
        return {"processes": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._random_states = state["processes"]


def _checksum(path: Path) -> Path:
    return path.with_suffix(".hash")
