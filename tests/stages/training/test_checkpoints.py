"""Training continues where it was killed, bit by bit the same."""

from pathlib import Path

import pytest
import torch

from stages.framework.stage import Stage
from tests.stages.training.small_trainings import save_after_every_update, train, train_reward_model


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_killed_training_ends_with_the_same_weights_and_curve(
    stage: Stage, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_after_every_update(monkeypatch)
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
    save_after_every_update(monkeypatch)
    expected, _ = train(stage)
    stage.when_done[0]()
    with pytest.raises(ConnectionAbortedError):
        train(stage, killed_at=5)
    newest = max(Path(".gradus/checkpoints").glob("*/*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    weights, _ = train(stage)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


@pytest.mark.parametrize("killed_at", [2, 5, 8, 14])
def test_a_killed_reward_model_ends_the_same(stage: Stage, killed_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    save_after_every_update(monkeypatch)
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
    saved = torch.load(max(Path(".gradus/checkpoints").glob("*/*.ckpt")), weights_only=True)["state_dict"]
    assert not any(
        name.startswith("model.model.layers.0") for name in saved
    )  # what is frozen is not stored again and again
    torch.randn(100)
    weights, resumed = train_reward_model(stage)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert resumed["curve"] == learned["curve"]
    assert resumed["tokens"] == learned["tokens"]
