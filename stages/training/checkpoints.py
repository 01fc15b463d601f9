"""Checkpoints: a training that was killed continues from the last one, on a CPU bit by bit the same."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from core.folders import file_hash, finished_file
from core.processes import this_process
from core.progress import say
from stages.framework.stage import CHECKPOINTS_KEPT, SECONDS_BETWEEN_CHECKPOINTS


class Checkpoints(pl.Callback):
    """Saves model, optimizer, loader position and random state between two batches, every `SECONDS_BETWEEN_CHECKPOINTS`.

    A file is complete or absent: it is written under another name, synced, then renamed. A file beside it has its checksum and those
    of the kept weights that it needs, so a damaged checkpoint is recognised and the one before it is used.

    Args:
        needed: checksums by name of the files of `folder`, beside the checkpoint itself, that a training needs to continue from now.
    """

    def __init__(self, folder: Path, needed: Callable[[], dict[str, str]] = dict) -> None:
        self.folder, self.needed, self.io = folder, needed, DirectCheckpointIO()
        self._told = False  # that a checkpoint could not be written
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
            self._try_to_save(trainer)
            self._saved_at = time.monotonic()

    def _try_to_save(self, trainer: pl.Trainer) -> None:
        """A training does not end because there is no place for a checkpoint: that is said once."""
        try:
            self.save(trainer)
        except OSError as error:
            if not self._told:
                self._told = True
                say(
                    f"{self.folder}: no checkpoint could be written ({error.strerror or error}); the training continues without a new one"
                )

    def save(self, trainer: pl.Trainer) -> None:
        """Writes step-N.ckpt and step-N.hash, and removes all but the `CHECKPOINTS_KEPT` newest.

        Raises:
            OSError: they could not be written.
        """
        target = self.folder / f"step-{trainer.global_step:09d}.ckpt"
        if not trainer.is_global_zero:
            trainer.save_checkpoint(target)  # writes nothing: the state of all processes is gathered
            return
        with finished_file(target) as partial:
            trainer.save_checkpoint(partial)
            if self.io.error:
                raise self.io.error
            digests = {target.name: file_hash(partial), **self.needed()}
        with finished_file(_checksums(target)) as partial:
            partial.write_text(json.dumps(digests), encoding="utf-8")
        for old in sorted(self.folder.glob("step-*.ckpt"))[:-CHECKPOINTS_KEPT]:
            old.unlink()
            _checksums(old).unlink(missing_ok=True)

    def latest(self) -> Path | None:
        """The newest sound checkpoint. What is wrong with newer ones is said."""
        checkpoints = sorted(self.folder.glob("step-*.ckpt"), reverse=True)
        for path in checkpoints:
            if not (damage := self._damage(path)):
                return path
            say(f"{path}: not used: {damage}")
        if checkpoints:
            say(f"{self.folder}: no sound checkpoint is left: the training starts from the beginning")
        return None

    def _damage(self, checkpoint: Path) -> str:
        """What is wrong with a checkpoint and the files it needs; "" if nothing is."""
        try:
            digests = json.loads(_checksums(checkpoint).read_bytes())
            for name, digest in digests.items():
                if file_hash(self.folder / Path(name).name) != digest:
                    return f"{name} is not what was written"
        except FileNotFoundError as error:
            return f"{Path(error.filename).name} is missing"
        except (ValueError, AttributeError):
            return f"{_checksums(checkpoint).name} is damaged"
        return "" if checkpoint.name in digests else f"{_checksums(checkpoint).name} is damaged"

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


def _checksums(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".hash")


class DirectCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint where it is asked to. Lightning's own goes through the system's temporary folder, which may be small.

    Attributes:
        error: why the last checkpoint could not be written. It is not raised at once: the other processes already wait for this one.
    """

    error: OSError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self.error = None
        try:
            with open(path, "wb") as file:
                torch.save(checkpoint, file)
        except OSError as error:
            self.error = error
        except RuntimeError as error:  # torch's, of closing an archive that could not be written
            if not isinstance(error.__context__, OSError):
                raise
            self.error = error.__context__
