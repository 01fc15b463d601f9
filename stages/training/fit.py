"""Training with Lightning: it can be resumed at any moment, and is followed by a progress bar, tracking and a learning curve."""

import os
from collections.abc import Iterator
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from core.processes import this_process
from core.progress import say
from lightning_modules.training.config import Precision, TrainingConfig
from lightning_modules.training.precision import has_bf16
from stages.framework import layout
from stages.framework.stage import Stage
from stages.training.checkpoints import Checkpoints
from stages.training.divergence import Divergence
from stages.training.kept_weights import MONITOR, KeptWeights
from stages.training.learning_curve import STEPS_BETWEEN_METRICS, LearningCurve


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
    config: TrainingConfig,
    validations: int = 1,
) -> dict[str, Any]:
    """Trains `module`; returns its speed and quality.

    Checkpoints are in a folder named by the stage's key, a hash of everything that the result depends on. A killed stage
    continues where it was, on a CPU bit by bit the same; one whose inputs changed starts from the beginning. The folder is
    removed when the stage is done.

    The module is validated about `validations` times an epoch, at equal distances, and at the end. Training ends after
    `config.early_stopping_patience` validations without a lower loss; a resumed training remembers how many there were.

    `KeptWeights` says which weights the module ends with.

    The learning curve (one entry a validation: epoch, step, training loss, validation metrics) becomes a file of the stage's output.

    Returns:
        `updates`, `seconds` of training, `tokens` and `tokens_per_second` as the module counts tokens, the `precision` of products
        ("bf16-mixed" or "32-true"), the validation metrics of the weights that it ends with.

    Raises:
        DivergedError: a validation loss is not finite, or more than `config.max_loss_ratio` times the loss of the first updates.
    """
    folder = layout.WORK / "checkpoints" / f"{stage.name.replace('@', '-')}-{stage.key}"
    curve = LearningCurve(stage, config.num_train_epochs * len(train))
    kept, divergence = KeptWeights(folder, config), Divergence(config)
    checkpoints = Checkpoints(folder, kept.checksums)
    precision = lightning_precision(config.precision)
    trainer = _trainer(
        config,
        precision,
        # At least two updates: a checkpoint is only saved between two updates that no validation separates.
        val_check_interval=min(len(train), max(2, len(train) // validations)),
        callbacks=[curve, divergence, kept, *_early_stopping(config), checkpoints],
        plugins=[checkpoints.io],
    )
    checkpoint = checkpoints.latest()
    if checkpoint:
        say(f"{stage.name}: continues from {checkpoint}")
    trainer.fit(module, train, validation, ckpt_path=checkpoint, weights_only=True)
    if curve.entries[-1]["step"] < trainer.global_step:
        trainer.validate(module, validation, verbose=False)
    stage.when_done.append(checkpoints.remove)
    stage.write_json(layout.CURVE, curve.entries)
    trainer.strategy.barrier()  # until the first process has written its files
    if kept.load(module):
        say(f"{stage.name}: weights of {kept}")
        trainer.validate(module, validation, verbose=False)
    divergence.check(curve.entries[-1][MONITOR])  # of the mean of several validations' weights, too
    return {
        "seconds": curve.seconds,
        "updates": trainer.global_step,
        "tokens": curve.tokens,
        "tokens_per_second": curve.tokens / max(curve.seconds, 1e-9),
        "precision": precision,
        **{name: value for name, value in curve.entries[-1].items() if name.startswith("validation")},
    }


def lightning_precision(precision: Precision) -> str:
    """ "bf16-mixed" or "32-true", as Lightning names them: bf16 never where the device lacks it.

    With "auto" a GPU computes in bf16, and a CPU never does, so that all CPUs agree.
    """
    on_gpu = torch.cuda.is_available()
    has = has_bf16("cuda" if on_gpu else "cpu")
    if precision == "bf16-mixed" and not has:
        say("precision: bf16-mixed: not on this device, products are taken in single precision")
    asked = precision == "bf16-mixed" or (on_gpu and precision == "auto")
    return "bf16-mixed" if asked and has else "32-true"


def _early_stopping(config: TrainingConfig) -> list[EarlyStopping]:
    patience = config.early_stopping_patience
    return [EarlyStopping(MONITOR, patience=patience, min_delta=0.0)] if patience else []


def _trainer(config: TrainingConfig, precision: str, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=config.num_train_epochs,
        accelerator="auto",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
        strategy="ddp" if this_process().world_size > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=STEPS_BETWEEN_METRICS,
        **options,
    )
