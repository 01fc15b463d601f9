"""The training step, in every precision that `stages.training.fit` chooses."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_modules.translators.module import TranslatorModule
from lightning_modules.translators.transformer.config import TransformerConfig, TransformerTrainingConfig
from lightning_modules.translators.transformer.model import Transformer


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adadelta"])
def test_an_update_is_clipped(precision: Any, optimizer: Any, batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    config = TransformerTrainingConfig(
        optimizer=optimizer,
        lr_scheduler_type="constant",
        warmup_steps=0,
        learning_rate=1.0,
        max_grad_norm=1e-3,
        label_smoothing=0.0,
    )
    model = Transformer(TransformerConfig(num_layers=1, hidden_size=16, ff_size=32, num_heads=2, dropout=0.0), 30)
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    trainer = pl.Trainer(
        accelerator="cpu", precision=precision, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(TranslatorModule(model, config, 1), DataLoader([batch], batch_size=None))  # type: ignore[arg-type]
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert moved.norm() > 0
    if optimizer == "sgd":
        assert moved.norm().item() == pytest.approx(1e-3, rel=1e-2)
