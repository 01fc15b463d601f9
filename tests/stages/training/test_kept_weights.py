"""The final weights are a mean of the last ones, or the best ones, after a kill too."""

import numpy as np
import pytest
import torch

from stages.framework.stage import Stage
from tests.stages.training.small_trainings import TRAINING, loaders, save_after_every_update, train

LONG = TRAINING.model_copy(update={"num_train_epochs": 4, "lr_scheduler_type": "constant", "learning_rate": 0.003})


def weights_by_epoch(stage: Stage) -> list[dict[str, torch.Tensor]]:
    """Those of trainings of one, two, ... epochs at a constant rate: what a longer one passes through."""
    weights = []
    for epochs in range(1, LONG.num_train_epochs + 1):
        weights.append(train(stage, config=LONG.model_copy(update={"num_train_epochs": epochs}))[0])
        stage.when_done[0]()
    return weights


def test_the_weights_of_the_last_epochs_are_averaged_after_a_kill_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_after_every_update(monkeypatch)
    epochs = weights_by_epoch(stage)
    with pytest.raises(ConnectionAbortedError):  # in the last epoch, when two of the three are written
        train(stage, killed_at=3 * len(loaders()[0]) + 2, config=LONG.model_copy(update={"average_last": 3}))
    averaged, learned = train(stage, config=LONG.model_copy(update={"average_last": 3}))
    for name, value in averaged.items():
        assert torch.equal(value, torch.stack([e[name] for e in epochs[1:]]).mean(0))
    assert len(learned["curve"]) == 4
    assert learned["validation_loss"] != learned["curve"][-1]["validation_loss"]


def test_patience_ends_a_training_and_keeps_its_best_weights_after_a_kill_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_after_every_update(monkeypatch)
    rising = TRAINING.model_copy(
        update={
            "num_train_epochs": 30,
            "lr_scheduler_type": "constant",
            "learning_rate": 0.03,
            "early_stopping_patience": 2,
        }
    )
    expected, learned = train(stage, config=rising)
    losses = [e["validation_loss"] for e in learned["curve"]]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 30  # two without a lower loss
    assert learned["validation_loss"] == pytest.approx(losses[best], abs=1e-6)
    stage.when_done[0]()
    with pytest.raises(ConnectionAbortedError):  # between the two: the count of patience must survive
        train(stage, killed_at=(best + 2) * len(loaders()[0]) - 2, config=rising)
    weights, resumed = train(stage, config=rising)
    assert resumed["curve"] == learned["curve"]
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


@pytest.mark.parametrize("averaged", [1, 2])
def test_weights_from_before_a_divergence_are_kept(stage: Stage, averaged: int) -> None:
    steps = len(loaders()[0])
    config = TRAINING.model_copy(update={"early_stopping_patience": 3, "average_last": averaged})
    _, learned = train(stage, config=config, diverges_at=2 * steps)
    assert [bool(np.isfinite(e["validation_loss"])) for e in learned["curve"]] == [True, True, False]
    assert np.isfinite(learned["validation_loss"])
