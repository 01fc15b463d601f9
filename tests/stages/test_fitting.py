"""Training continues where it was killed, bit by bit the same."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from data.batching import TokenBudgetLoader, translation_loader
from gradus.tracking import StageRun
from lightning_modules.transformer import Training, Transformer, TransformerSettings
from lightning_modules.translation import Translation
from stages import fitting, layout
from stages.fitting import fit
from stages.params import load_params
from stages.stage import Stage, read_json

TRAINING = Training(epochs=3, schedule="cosine", learning_rate=0.01, warmup_steps=3, tokens_per_batch=40)


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


def train(stage: Stage, killed_at: int | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Trains a model with dropout from a fixed seed; may break off before an update."""
    pl.seed_everything(5, verbose=False)
    model = Transformer(TransformerSettings(layers=1, d_model=16, d_ff=32, heads=2, dropout=0.3), 30)
    loader, validation = loaders()

    class Killed(Translation):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if killed_at is not None and self.trainer.global_step == killed_at:
                raise ConnectionAbortedError("killed")

    stage.when_done = []
    learned = fit(stage, Killed(model, TRAINING, len(loader)), loader, validation, TRAINING)
    learned["curve"] = read_json(stage.out / layout.CURVE)
    return {k: v.clone() for k, v in model.state_dict().items()}, learned


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


def test_every_epoch_trains_on_all_pairs(stage: Stage) -> None:
    _, learned = train(stage)
    assert [e["epoch"] for e in learned["curve"]] == [1, 2, 3]
    loader, _ = loaders()
    assert learned["tokens"] == 3 * int(loader.lengths.sum())
    assert learned["curve"][-1]["step"] == 3 * len(loader)
    assert learned["curve"][-1]["validation_perplexity"] < learned["curve"][0]["validation_perplexity"]
