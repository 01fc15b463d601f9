"""Training continues where it was killed, bit by bit the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages.framework.stage import Stage
from stages.training import checkpoints, kept_weights
from tests.stages.training.small_trainings import TRAINING, save_after_every_update, train, train_reward_model


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


@pytest.mark.parametrize("kept", [1, 2, 4])
def test_as_many_checkpoints_are_kept_as_asked_and_any_of_them_will_do(
    stage: Stage, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has the weights of the best validation before it, which may be the final ones."""
    save_after_every_update(monkeypatch)
    monkeypatch.setattr(checkpoints, "CHECKPOINTS_KEPT", kept)
    monkeypatch.setattr(kept_weights, "CHECKPOINTS_KEPT", kept)
    config = TRAINING.model_copy(update={"early_stopping_patience": 3})
    expected, learned = train(stage, config=config)
    stage.when_done[0]()
    steps = learned["curve"][0]["step"]
    with pytest.raises(ConnectionAbortedError):
        train(stage, killed_at=2 * steps + 1, config=config)
    with pytest.raises(ConnectionAbortedError):  # resumed, it has forgotten nothing of the checkpoints before
        train(stage, killed_at=2 * steps + 2, config=config)
    saved = sorted(Path(".gradus/checkpoints").glob("*/*.ckpt"))
    assert len(saved) == kept
    for checkpoint in saved:
        losses = torch.load(checkpoint, weights_only=True)["callbacks"]["KeptWeights"]["losses"]
        assert (checkpoint.parent / f"weights-{max(losses):09d}.safetensors").is_file()
    for newer in saved[1:]:
        newer.write_bytes(newer.read_bytes()[:-100])
    weights, resumed = train(stage, config=config)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert resumed["curve"] == learned["curve"]


@pytest.mark.parametrize(("asked", "kept"), [("5", 5), ("1", 1), ("0", 1)])
def test_the_environment_says_how_many_and_one_is_the_least(asked: str, kept: int) -> None:
    environment = {**os.environ, "GRADUS_CHECKPOINTS_KEPT": asked, "PYTHONPATH": str(Path(__file__).parents[3])}
    code = "from stages.framework.stage import CHECKPOINTS_KEPT; print(CHECKPOINTS_KEPT)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert int(result.stdout) == kept


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
