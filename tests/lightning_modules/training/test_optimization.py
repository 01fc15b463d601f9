"""Schedules as the papers give them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig

from lightning_modules.language_model.module import LanguageModelModule
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.fine_tuning import FineTuningModule
from lightning_modules.prefix_tuning.module import PrefixTuningModule
from lightning_modules.prefix_tuning.prefix import build_adapter
from lightning_modules.reward_model.module import RewardModelModule
from lightning_modules.training.config import TrainingConfig
from lightning_modules.training.optimization import optimization, schedule
from lightning_modules.translators.bahdanau.model import Bahdanau, BahdanauConfig
from lightning_modules.translators.gru.model import GRU, GRUConfig
from lightning_modules.translators.luong.model import Luong, LuongConfig
from lightning_modules.translators.module import TranslatorModule
from lightning_modules.translators.seq2seq.model import Seq2Seq, Seq2SeqConfig
from lightning_modules.translators.transformer.config import TransformerTrainingConfig
from lightning_modules.translators.transformer.model import Transformer, TransformerConfig


def test_noam_equals_equation_3() -> None:
    rate = schedule(TrainingConfig(lr_scheduler_type="noam", warmup_steps=4000), 100, hidden_size=512)
    for step in (1, 100, 4000, 4001, 100_000):
        assert rate(step - 1) == pytest.approx(512**-0.5 * min(step**-0.5, step * 4000**-1.5))
    assert max(range(6000), key=rate) == 3999


WIDTH = 16
NOAM = TransformerTrainingConfig(lr_scheduler_type="noam", warmup_steps=4, learning_rate=2.0)


def of_transformers(auto_class: Any) -> Any:
    shape = LlamaConfig(
        vocab_size=30, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    shape.num_labels, shape.pad_token_id = 1, 0
    return auto_class.from_config(shape)


def trainings() -> dict[str, Callable[[], pl.LightningModule]]:
    """A training of every kind of model; all models are of the same width, and other widths in them are not."""
    gated = {"embedding_dim": 12, "hidden_size": WIDTH, "maxout_size": 10}
    transformer = TransformerConfig(num_layers=1, hidden_size=WIDTH, ff_size=32, num_heads=2)
    models = {
        "transformer": lambda: Transformer(transformer, 30),
        "luong": lambda: Luong(LuongConfig(embedding_dim=12, hidden_size=WIDTH), 30),
        "seq2seq": lambda: Seq2Seq(Seq2SeqConfig(embedding_dim=12, hidden_size=WIDTH), 30),
        "gru": lambda: GRU(GRUConfig(**gated), 30),
        "bahdanau": lambda: Bahdanau(BahdanauConfig(**gated, attention_size=9), 30),
    }
    base, small = partial(of_transformers, AutoModelForCausalLM), PrefixConfig(num_virtual_tokens=3)

    def prefix() -> pl.LightningModule:
        model = base()
        return PrefixTuningModule(model, build_adapter("prefix", model, small, None), NOAM, 10)

    return {
        **{name: lambda make=make: TranslatorModule(make(), NOAM, 10) for name, make in models.items()},  # type: ignore[misc]
        "language_model": lambda: LanguageModelModule(base(), NOAM, 10),
        "prefix": prefix,
        "fine_tuning": lambda: FineTuningModule(base(), NOAM, 10),
        "reward_model": lambda: RewardModelModule(of_transformers(AutoModelForSequenceClassification), NOAM, 10),
    }


@pytest.mark.parametrize("name", trainings())
def test_noam_has_the_width_of_every_models_hidden_states(name: str) -> None:
    (group,) = trainings()[name]().configure_optimizers()["optimizer"].param_groups  # type: ignore[index, call-overload]
    assert group["lr"] == pytest.approx(2.0 * WIDTH**-0.5 * 4**-1.5)


def test_halving_after_luong_and_after_sutskever() -> None:
    luong = schedule(
        TrainingConfig(lr_scheduler_type="halving", num_train_epochs=10, halve_after=5, halve_every=1), 100, 1
    )
    assert [luong(100 * e) for e in (0, 4, 4.99, 5, 6, 9)] == [1, 1, 1, 0.5, 0.25, 0.5**5]
    sutskever = schedule(
        TrainingConfig(lr_scheduler_type="halving", num_train_epochs=8, halve_after=5, halve_every=0.5), 100, 1
    )
    assert [sutskever(s) for s in (499, 500, 549, 550, 700, 749)] == [1, 0.5, 0.5, 0.25, 0.5**5, 0.5**5]


def test_cosine_ends_at_its_share_and_linear_at_zero() -> None:
    cosine = schedule(
        TrainingConfig(lr_scheduler_type="cosine", num_train_epochs=2, warmup_steps=10, min_lr_rate=0.1), 100, 1
    )
    assert [round(cosine(s), 6) for s in (0, 9, 10, 105, 200)] == [0.1, 1, 1, 0.55, 0.1]
    linear = schedule(TrainingConfig(lr_scheduler_type="linear", num_train_epochs=1, warmup_steps=0), 100, 1)
    assert [linear(s) for s in (0, 50, 100)] == [1, 0.5, 0]


def test_adadelta_is_zeilers_with_rho_and_epsilon_of_cho_and_bahdanau() -> None:
    """Algorithm 1 of Zeiler (2012), written out; rho .95, epsilon 1e-6."""
    weight = nn.Parameter(torch.tensor([0.3, -0.7], dtype=torch.float64))
    config = TrainingConfig(optimizer="adadelta", learning_rate=1.0)
    optimizer = optimization([weight], config, 10, 1)["optimizer"]
    x, squares, changes = weight.detach().clone(), torch.zeros(2).double(), torch.zeros(2).double()
    for g in torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64):
        weight.grad = g.clone()
        optimizer.step()
        squares = 0.95 * squares + 0.05 * g**2
        change = -((changes + 1e-6) / (squares + 1e-6)).sqrt() * g
        changes = 0.95 * changes + 0.05 * change**2
        x += change
        torch.testing.assert_close(weight.detach(), x, rtol=1e-12, atol=0)
