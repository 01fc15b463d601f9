"""Small trainings that the tests of this folder start, break off and resume."""

from typing import Any

import datasets
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig

from data.batching import TokenBudgetLoader
from data.comparisons.encoding import EncodedRanking
from data.loaders import translation_loader
from lightning_modules.language_model.top_layers import train_only_top_layers
from lightning_modules.reward_model.config import RewardTrainingConfig
from lightning_modules.reward_model.module import RankingLoader, RewardModelModule
from lightning_modules.training.config import TrainingConfig
from lightning_modules.translators.module import TranslatorModule
from lightning_modules.translators.transformer.config import TransformerConfig, TransformerTrainingConfig
from lightning_modules.translators.transformer.model import Transformer
from stages.framework import layout
from stages.framework.stage import Stage, read_json
from stages.training import checkpoints
from stages.training.fit import fit

TRAINING = TransformerTrainingConfig(
    num_train_epochs=3, lr_scheduler_type="cosine", learning_rate=0.01, warmup_steps=3, batch_tokens=40
)


def save_after_every_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)


def loaders() -> tuple[TokenBudgetLoader, TokenBudgetLoader]:
    random = np.random.default_rng(0)
    rows = {
        side: [random.integers(4, 30, random.integers(2, 9)).tolist() for _ in range(60)]
        for side in ("source", "target")
    }
    encoded = datasets.Dataset.from_dict(
        rows, features=datasets.Features({side: datasets.List(datasets.Value("int32")) for side in rows})
    )
    return translation_loader(encoded, 40, seed=1), translation_loader(encoded, 40, shuffle=False)


def train(
    stage: Stage,
    killed_at: int | None = None,
    config: TrainingConfig = TRAINING,
    diverges_at: int | None = None,
    diverges_by: float = torch.nan,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Trains a model with dropout from a fixed seed; may break off before an update."""
    pl.seed_everything(5, verbose=False)
    model = Transformer(TransformerConfig(num_layers=1, hidden_size=16, ff_size=32, num_heads=2, dropout=0.3), 30)
    loader, validation = loaders()

    class Killed(TranslatorModule):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if killed_at is not None and self.trainer.global_step == killed_at:
                raise ConnectionAbortedError("killed")
            if self.trainer.global_step == diverges_at:
                next(self.parameters()).data.mul_(diverges_by)

    stage.when_done = []
    learned = fit(stage, Killed(model, config, len(loader)), loader, validation, config)
    learned["curve"] = read_json(stage.out / layout.CURVE)
    return {k: v.clone() for k, v in model.state_dict().items()}, learned


def train_reward_model(stage: Stage, killed_at: int | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """A model that optimizes by itself, with frozen layers, dropout, and validations inside an epoch."""
    pl.seed_everything(5, verbose=False)
    shape = LlamaConfig(
        vocab_size=30, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        attention_dropout=0.3, pad_token_id=0,
    )  # fmt: skip
    shape.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(shape)
    train_only_top_layers(model, 1, output=True)
    random = np.random.default_rng(0)
    rankings = [
        EncodedRanking(
            [5, 6], [random.integers(4, 30, 4).tolist() for _ in range(3)], random.permutation([1, 2, 3]).tolist()
        )
        for _ in range(60)
    ]
    config = RewardTrainingConfig(num_train_epochs=2, learning_rate=0.01, micro_batch_tokens=40)
    train, validation = RankingLoader(rankings[:50], 5, 40, seed=1), RankingLoader(rankings[50:], 5, 40, shuffle=False)

    class Killed(RewardModelModule):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if killed_at is not None and self.trainer.global_step == killed_at:
                raise ConnectionAbortedError("killed")

    stage.when_done = []
    learned = fit(stage, Killed(model, config, len(train)), train, validation, config, validations=3)
    learned["curve"] = read_json(stage.out / layout.CURVE)
    return {k: v.clone() for k, v in model.state_dict().items()}, learned
