"""Training continues where it was killed, bit by bit the same."""

import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig

from core.errors import InputError
from core.tracking import StageRun
from data.batching import TokenBudgetLoader
from data.comparisons.encoding import EncodedRanking
from data.loaders import translation_loader
from lightning_modules.language_model.top_layers import train_only_top_layers
from lightning_modules.reward_model.loss import RewardTrainingConfig
from lightning_modules.reward_model.module import RankingLoader, RewardModelModule
from lightning_modules.training.config import TrainingConfig
from lightning_modules.translators.module import TranslatorModule
from lightning_modules.translators.transformer import model as transformer
from lightning_modules.translators.transformer.model import Transformer, TransformerConfig
from stages.framework import layout
from stages.framework.params import load_params
from stages.framework.stage import Stage, read_json
from stages.training import fit as fitting
from stages.training.fit import fit

TRAINING = transformer.TransformerTrainingConfig(
    num_train_epochs=3, lr_scheduler_type="cosine", learning_rate=0.01, warmup_steps=3, batch_tokens=40
)


@pytest.fixture
def stage(project: Path) -> Stage:
    return Stage(
        "pretraining@transformer", "transformer", load_params(), project, StageRun("pretraining@transformer"), "key"
    )


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
    settings: TrainingConfig = TRAINING,
    diverges_at: int | None = None,
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
                next(self.parameters()).data.fill_(torch.nan)

    stage.when_done = []
    learned = fit(stage, Killed(model, settings, len(loader)), loader, validation, settings)
    learned["curve"] = read_json(stage.out / layout.CURVE)
    return {k: v.clone() for k, v in model.state_dict().items()}, learned


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks what a CPU does")
def test_a_cpu_trains_in_bf16_where_it_has_it_and_is_asked(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    single, _ = train(stage)
    stage.when_done[0]()  # on a busy machine it has left a checkpoint to continue from
    asked, learned = train(stage, settings=TRAINING.model_copy(update={"precision": "bf16-mixed"}))
    has_it = bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", Path("/proc/cpuinfo").read_text()))
    assert ("not on this device" in capsys.readouterr().out) == (not has_it)
    equal = [torch.equal(asked[name], value) for name, value in single.items() if value.is_floating_point()]
    assert not any(equal) if has_it else all(equal)
    assert learned["precision"] == ("bf16-mixed" if has_it else "32-true")
    assert all(value.dtype != torch.bfloat16 for value in asked.values())


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_killed_training_ends_with_the_same_weights_and_curve(
    stage: Stage, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    expected, learned = train(stage)
    stage.when_done[0]()
    steps = learned["curve"][0]["step"]
    with pytest.raises(ConnectionAbortedError):
        train(stage, killed_at=epoch * steps + steps // 2)
    torch.randn(100)  # whatever happened to the random state in between
    weights, resumed = train(stage)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert resumed["curve"] == learned["curve"]
    assert resumed["tokens"] == learned["tokens"]
    assert resumed["seconds"] < 60
    assert list(Path(".gradus/checkpoints").glob("*"))
    for call in stage.when_done:
        call()
    assert not list(Path(".gradus/checkpoints").glob("*"))


def test_a_damaged_checkpoint_is_passed_over(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    expected, _ = train(stage)
    stage.when_done[0]()
    with pytest.raises(ConnectionAbortedError):
        train(stage, killed_at=5)
    newest = max(Path(".gradus/checkpoints").glob("*/*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    weights, _ = train(stage)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def weights_by_epoch(stage: Stage) -> list[dict[str, torch.Tensor]]:
    """Those of trainings of one, two, ... epochs at a constant rate: what a longer one passes through."""
    found = []
    for epochs in range(1, LONG.num_train_epochs + 1):
        found.append(train(stage, settings=LONG.model_copy(update={"num_train_epochs": epochs}))[0])
        stage.when_done[0]()
    return found


LONG = TRAINING.model_copy(update={"num_train_epochs": 4, "lr_scheduler_type": "constant", "learning_rate": 0.003})


def test_the_weights_of_the_last_epochs_are_averaged_after_a_kill_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    epochs = weights_by_epoch(stage)
    with pytest.raises(ConnectionAbortedError):  # in the last epoch, when two of the three are written
        train(stage, killed_at=3 * len(loaders()[0]) + 2, settings=LONG.model_copy(update={"average_last": 3}))
    averaged, learned = train(stage, settings=LONG.model_copy(update={"average_last": 3}))
    for name, value in averaged.items():
        assert torch.equal(value, torch.stack([e[name] for e in epochs[1:]]).mean(0))
    assert len(learned["curve"]) == 4
    assert learned["validation_loss"] != learned["curve"][-1]["validation_loss"]


def test_patience_ends_a_training_and_keeps_its_best_weights_after_a_kill_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    rising = TRAINING.model_copy(
        update={
            "num_train_epochs": 30,
            "lr_scheduler_type": "constant",
            "learning_rate": 0.03,
            "early_stopping_patience": 2,
        }
    )
    expected, learned = train(stage, settings=rising)
    losses = [e["validation_loss"] for e in learned["curve"]]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 30  # two without a lower loss
    assert learned["validation_loss"] == pytest.approx(losses[best], abs=1e-6)
    stage.when_done[0]()
    with pytest.raises(ConnectionAbortedError):  # between the two: the count of patience must survive
        train(stage, killed_at=(best + 2) * len(loaders()[0]) - 2, settings=rising)
    weights, resumed = train(stage, settings=rising)
    assert resumed["curve"] == learned["curve"]
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


@pytest.mark.parametrize("averaged", [1, 2])
def test_weights_from_before_a_divergence_are_kept(stage: Stage, averaged: int) -> None:
    steps = len(loaders()[0])
    settings = TRAINING.model_copy(update={"early_stopping_patience": 3, "average_last": averaged})
    _, learned = train(stage, settings=settings, diverges_at=2 * steps)
    assert [bool(np.isfinite(e["validation_loss"])) for e in learned["curve"]] == [True, True, False]
    assert np.isfinite(learned["validation_loss"])


def test_a_training_that_diverged_is_an_error(stage: Stage) -> None:
    with pytest.raises(
        InputError, match=r"training diverged: its validation loss is nan\. Lower training\.learning_rate"
    ):
        train(stage, diverges_at=1)


def test_every_epoch_trains_on_all_pairs(stage: Stage) -> None:
    _, learned = train(stage)
    assert [e["epoch"] for e in learned["curve"]] == [1, 2, 3]
    loader, _ = loaders()
    assert learned["tokens"] == 3 * int(loader.lengths.sum())
    assert learned["curve"][-1]["step"] == 3 * len(loader)
    assert learned["curve"][-1]["validation_perplexity"] < learned["curve"][0]["validation_perplexity"]


def train_reward_model(stage: Stage, killed_at: int | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """A model that optimizes by itself, with frozen layers, dropout, and validations inside an epoch."""
    pl.seed_everything(5, verbose=False)
    config = LlamaConfig(
        vocab_size=30, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        attention_dropout=0.3, pad_token_id=0,
    )  # fmt: skip
    config.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(config)
    train_only_top_layers(model, 1, output=True)
    random = np.random.default_rng(0)
    groups = [
        EncodedRanking(
            [5, 6], [random.integers(4, 30, 4).tolist() for _ in range(3)], random.permutation([1, 2, 3]).tolist()
        )
        for _ in range(60)
    ]
    settings = RewardTrainingConfig(num_train_epochs=2, learning_rate=0.01, micro_batch_tokens=40)
    train, validation = RankingLoader(groups[:50], 5, 40, seed=1), RankingLoader(groups[50:], 5, 40, shuffle=False)

    class Killed(RewardModelModule):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if killed_at is not None and self.trainer.global_step == killed_at:
                raise ConnectionAbortedError("killed")

    stage.when_done = []
    learned = fit(stage, Killed(model, settings, len(train)), train, validation, settings, validations=3)
    learned["curve"] = read_json(stage.out / layout.CURVE)
    return {k: v.clone() for k, v in model.state_dict().items()}, learned


@pytest.mark.parametrize("killed_at", [2, 5, 8, 14])
def test_a_killed_reward_model_ends_the_same(stage: Stage, killed_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    expected, learned = train_reward_model(stage)
    assert [(e["epoch"], e["step"]) for e in learned["curve"]] == [
        (1, 3),
        (1, 6),
        (1, 9),
        (2, 13),
        (2, 16),
        (2, 19),
        (2, 20),
    ]
    assert learned["updates"] == 20
    stage.when_done[0]()
    with pytest.raises(ConnectionAbortedError):
        train_reward_model(stage, killed_at=killed_at)
    kept = torch.load(max(Path(".gradus/checkpoints").glob("*/*.ckpt")), weights_only=True)["state_dict"]
    assert not any(
        name.startswith("model.model.layers.0") for name in kept
    )  # what is frozen is not stored again and again
    torch.randn(100)
    weights, resumed = train_reward_model(stage)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert resumed["curve"] == learned["curve"]
    assert resumed["tokens"] == learned["tokens"]
