"""Training with Lightning: resumable at any moment, followed by progress bars, tracking and a learning curve."""

import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from safetensors.torch import load_file, save_file

from core.errors import InputError
from core.folders import file_hash, finished_file
from core.processes import share
from core.progress import Progress
from lightning_modules.training.config import Precision, TrainingConfig
from lightning_modules.training.precision import has_bf16
from stages.framework import layout
from stages.framework.stage import SECONDS_BETWEEN_CHECKPOINTS, Stage

STEPS_BETWEEN_METRICS = 10
MONITOR = "validation_loss"  # what decides how long to train and which weights to keep


class Loader(Protocol):
    """Batches whose place in an epoch can be saved."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def state_dict(self) -> dict[str, int]: ...
    def load_state_dict(self, state: dict[str, int]) -> None: ...


def fit(
    stage: Stage,
    module: pl.LightningModule,
    train: Loader,
    validation: Loader,
    settings: TrainingConfig,
    validations: int = 1,
) -> dict[str, Any]:
    """Trains `module`; returns its speed and quality.

    Checkpoints go to a folder named by the stage's key, a hash of everything the result depends on: a stage that was killed
    continues where it was, bit by bit the same, and one whose inputs changed starts anew. The folder goes when the stage
    is done.

    The module is validated about `validations` times an epoch, at equal distances, and at the end. After `settings.early_stopping_patience`
    validations without a lower loss training ends; an ended training's state survives a resume like all else.

    The weights it ends with are the mean of those at the last `settings.average_last` validations (Vaswani et al. 2017, 6.1); with a
    patience and nothing to average, those of the lowest validation loss.

    The learning curve (one entry a validation: epoch, step, training loss, validation metrics) becomes a file of the stage's output.

    Returns:
        `updates`, `seconds` of training, `tokens` and `tokens_per_second` as the module counts tokens, the `precision` of products
        ("bf16" or "single"), the validation metrics of the weights that it ends with.
    """
    folder = layout.WORK / "checkpoints" / f"{stage.name.replace('@', '-')}-{stage.key}"
    curve = LearningCurve(stage, settings.num_train_epochs * len(train))
    checkpoints, kept = Checkpoints(folder), KeptWeights(folder, settings)
    patience = (
        [EarlyStopping(MONITOR, patience=settings.early_stopping_patience, min_delta=0.0)]
        if settings.early_stopping_patience
        else []
    )
    in_bf16 = computes_in_bf16(settings.precision)
    trainer = pl.Trainer(
        max_epochs=settings.num_train_epochs,
        accelerator="auto",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
        strategy="ddp" if share().of > 1 else "auto",
        precision="bf16-mixed" if in_bf16 else "32-true",
        # At least two updates: a checkpoint is taken between two that no validation parts.
        val_check_interval=min(len(train), max(2, len(train) // validations)),
        callbacks=[curve, kept, *patience, checkpoints],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=STEPS_BETWEEN_METRICS,
    )
    resumed = checkpoints.latest()
    if resumed:
        print(f"{stage.name}: continues from {resumed}", flush=True)
    trainer.fit(module, train, validation, ckpt_path=resumed, weights_only=True)
    if curve.epochs[-1]["step"] < trainer.global_step:
        trainer.validate(module, validation, verbose=False)
    stage.when_done.append(checkpoints.remove)
    stage.write_json(layout.CURVE, curve.epochs)
    trainer.strategy.barrier()  # the files of the first process are there
    if kept.load(module):
        print(f"{stage.name}: weights of {kept}", flush=True)
        trainer.validate(module, validation, verbose=False)
    if not math.isfinite(loss := curve.epochs[-1][MONITOR]):
        raise InputError(
            f"{stage.name}: training diverged: its validation loss is {loss}. Lower training.learning_rate, or set training.max_grad_norm."
        )
    return {
        "seconds": curve.seconds,
        "updates": trainer.global_step,
        "tokens": curve.tokens,
        "tokens_per_second": curve.tokens / max(curve.seconds, 1e-9),
        "precision": "bf16-mixed" if in_bf16 else "single",
        **{name: value for name, value in curve.epochs[-1].items() if name.startswith("validation")},
    }


class LearningCurve(pl.Callback):
    """Counts tokens and seconds of training, and reports losses to the progress bar and to tracking."""

    def __init__(self, stage: Stage, steps: int) -> None:
        self.stage = stage
        self.epochs: list[dict[str, float]] = []
        self.tokens, self.seconds = 0, 0.0
        self.progress = Progress(stage.name, steps)
        self.mark = 0.0
        self.losses: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mark = time.monotonic()  # a resumed epoch does not start again

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mark = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        self.seconds, self.mark = self.seconds + now - self.mark, now
        self.tokens += int(outputs["tokens"])
        self.losses.append(float(trainer.strategy.reduce(outputs["train_loss"], reduce_op="mean")))
        step = trainer.global_step
        rate = self.tokens / self.seconds
        self.progress.update(
            step,
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  loss {self.losses[-1]:.3f}  {rate:,.0f} tokens/s",
        )
        if step % STEPS_BETWEEN_METRICS == 0:
            recent = self.losses[-STEPS_BETWEEN_METRICS:]
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self.stage.run.metrics(
                {"train_loss": sum(recent) / len(recent), "learning_rate": lr, "tokens_per_second": rate}, step
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        entry = {
            "epoch": min(trainer.current_epoch + 1, trainer.max_epochs or 1),
            "step": trainer.global_step,
            "train_loss": sum(self.losses) / max(1, len(self.losses)),
            **values,
        }
        self.losses = []
        self.epochs.append(entry)
        self.stage.run.metrics(values, trainer.global_step)
        print(
            f"{self.stage.name}: epoch {entry['epoch']}: " + "  ".join(f"{k} {v:.4g}" for k, v in values.items()),
            flush=True,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "tokens": self.tokens, "seconds": self.seconds, "losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs, self.tokens, self.seconds, self.losses = (
            state["epochs"],
            state["tokens"],
            state["seconds"],
            state["losses"],
        )


class KeptWeights(pl.Callback):
    """Keeps the trained weights of the validations that the final ones are made of: the last few, or the best.

    Each is a file of the checkpoints' folder, written once; a resumed training writes the ones after its checkpoint again.
    """

    def __init__(self, folder: Path, settings: TrainingConfig) -> None:
        self.folder, self.averaged, self.best = folder, settings.average_last, bool(settings.early_stopping_patience)
        self.losses: dict[int, float] = {}  # validation loss by update, of the validations to keep
        self.needed: set[int] = set()  # by the checkpoint before the newest

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (self.averaged == 1 and not self.best) or trainer.global_step in self.losses:
            return
        loss = float(trainer.callback_metrics[MONITOR])
        if not math.isfinite(loss):  # diverged: what was kept before is what there is
            return
        if self.averaged == 1 and self.losses and loss >= min(self.losses.values()):
            return
        if trainer.is_global_zero:
            with finished_file(self._file(trainer.global_step)) as partial:
                save_file({n: p.detach().contiguous() for n, p in _trained(pl_module)}, partial)
        self.losses[trainer.global_step] = loss

    def steps(self) -> list[int]:
        """The updates whose weights make the final ones."""
        return list(self.losses)[-self.averaged :]

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
        needed = set(self.steps())
        for file in set(self.folder.glob("weights-*")) - {self._file(step) for step in needed | self.needed}:
            file.unlink(missing_ok=True)  # every process tidies up
        self.needed = needed
        return {"losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses = state["losses"]

    def _file(self, step: int) -> Path:
        return self.folder / f"weights-{step:09d}.safetensors"


def computes_in_bf16(precision: Precision) -> bool:
    """Whether products are taken in bf16: never where the device lacks it. A CPU is asked only on demand, so that CPUs agree."""
    on_gpu = torch.cuda.is_available()
    has, wanted = has_bf16("cuda" if on_gpu else "cpu"), precision == "bf16-mixed" or (on_gpu and precision == "auto")
    if precision == "bf16-mixed" and not has:
        print("precision: bf16-mixed: not on this device, products are taken in single precision", flush=True)
    return wanted and has


def _trained(module: pl.LightningModule) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)


class Checkpoints(pl.Callback):
    """Saves model, optimizer, loader position and random state between two batches, now and then.

    A file is complete or absent: written beside, synced, then moved; its checksum stands in a file beside it, so
    a damaged one is passed over. The one before is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved = time.monotonic()
        self.random: list[dict[str, Any]] = []  # of every process

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.random:
            mine = self.random[trainer.global_rank % len(self.random)]  # the number of processes may have changed
            torch.set_rng_state(mine["cpu"])
            if mine["cuda"]:
                torch.cuda.set_rng_state_all(mine["cuda"])
        self.saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Where a validation comes next is no place to continue from.
        done = batch_idx + 1
        validated = done >= trainer.num_training_batches or done % int(trainer.val_check_batch or 1) == 0
        due = time.monotonic() - self.saved >= SECONDS_BETWEEN_CHECKPOINTS
        if not validated and trainer.strategy.reduce_boolean_decision(due, all=False):
            self.save(trainer)
            self.saved = time.monotonic()

    def save(self, trainer: pl.Trainer) -> None:
        """Writes step-N.ckpt and step-N.hash, and removes all but the two newest."""
        target = self.folder / f"step-{trainer.global_step:09d}.ckpt"
        if not trainer.is_global_zero:
            trainer.save_checkpoint(target)  # writes nothing: the state of all processes is gathered
            return
        with finished_file(target) as partial:
            trainer.save_checkpoint(partial)
            digest = file_hash(partial)
        with finished_file(_checksum(target)) as partial:
            partial.write_text(digest)
        for old in sorted(self.folder.glob("step-*.ckpt"))[:-2]:
            old.unlink()
            _checksum(old).unlink(missing_ok=True)

    def latest(self) -> Path | None:
        """The newest undamaged checkpoint."""
        for path in sorted(self.folder.glob("step-*.ckpt"), reverse=True):
            if _checksum(path).exists() and _checksum(path).read_text() == file_hash(path):
                return path
        return None

    def remove(self) -> None:
        """Removes the folder, and those of the same stage that other inputs have left behind."""
        stage = self.folder.name.rpartition("-")[0]
        for folder in self.folder.parent.glob(f"{stage}-*"):
            if folder.name.rpartition("-")[0] == stage:
                shutil.rmtree(folder, ignore_errors=True)

    def state_dict(self) -> dict[str, Any]:
        mine = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        states = [mine] * share().of
        if share().of > 1:
            torch.distributed.all_gather_object(states, mine)
        return {"processes": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.random = state["processes"]


def _checksum(path: Path) -> Path:
    return path.with_suffix(".hash")
