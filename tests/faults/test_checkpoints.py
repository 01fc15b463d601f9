"""What becomes of a training whose checkpoints are damaged, or have no place."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.folders import finished_folder
from stages.framework import layout
from stages.framework.stage import Stage
from stages.framework.stage import stage as running_stage
from tests.stages.training.small_trainings import TRAINING, save_after_every_update, train

CONFIG = TRAINING.model_copy(update={"early_stopping_patience": 3})  # has kept weights beside its checkpoints


def newest(pattern: str) -> Path:
    return max(layout.WORK.glob(f"checkpoints/*/{pattern}"))


def altered(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def assert_same(
    weights: dict[str, torch.Tensor], run: dict[str, Any], expected: dict[str, torch.Tensor], learned: dict[str, Any]
) -> None:
    """Weights to the last bit, and the learning curve."""
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert run["curve"] == learned["curve"]


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a checkpoint is shortened": ("step-*.ckpt", lambda file: file.write_bytes(file.read_bytes()[:-100])),
    "a bit of a checkpoint is another": ("step-*.ckpt", altered),
    "a checksum is not text": ("step-*.hash", lambda file: file.write_bytes(b"\xff\xfe\x00")),
    "a checksum is empty": ("step-*.hash", lambda file: file.write_bytes(b"")),
    "a checksum is missing": ("step-*.hash", Path.unlink),
}
DAMAGED_WEIGHTS: dict[str, Callable[[Path], object]] = {
    "altered": altered,
    "shortened": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "missing": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_used(
    stage: Stage, damage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_after_every_update(monkeypatch)
    expected, learned = train(stage, config=CONFIG)
    stage.when_done[0]()
    with pytest.raises(ConnectionAbortedError):
        train(stage, killed_at=6, config=CONFIG)
    pattern, spoil = DAMAGES[damage]
    spoil(newest(pattern))
    weights, resumed = train(stage, config=CONFIG)
    said = capsys.readouterr().out
    assert "not used: step-" in said
    assert "continues from" in said
    assert_same(weights, resumed, expected, learned)


@pytest.mark.parametrize("damage", DAMAGED_WEIGHTS)
def test_with_damaged_kept_weights_a_training_starts_again_and_ends_the_same(
    stage: Stage, damage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a kill leaves it between a finished output and the removal of its checkpoints: every later run failed."""
    save_after_every_update(monkeypatch)
    expected, learned = train(stage, config=CONFIG)
    for weights_file in layout.WORK.glob("checkpoints/*/weights-*"):
        DAMAGED_WEIGHTS[damage](weights_file)
    weights, again = train(stage, config=CONFIG)
    said = capsys.readouterr().out
    assert "not used: weights-" in said
    assert "no sound checkpoint is left: the training starts from the beginning" in said
    assert_same(weights, again, expected, learned)


@pytest.mark.parametrize("used", [1_000_000, 1_040_000, 1_048_576])  # the first bytes find a place, or not
def test_a_full_disk_at_a_checkpoint_is_said_once_and_the_training_ends_the_same(
    stage: Stage, small_disk: Path, used: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_after_every_update(monkeypatch)
    expected, learned = train(stage)
    stage.when_done[0]()
    capsys.readouterr()
    (layout.WORK / "checkpoints").rmdir()
    (layout.WORK / "checkpoints").symlink_to(small_disk)
    (small_disk / "other").write_bytes(b"x" * used)
    weights, full = train(stage)
    assert capsys.readouterr().out.count("no checkpoint could be written (No space left on device)") == 1
    assert_same(weights, full, expected, learned)
    assert not [path for path in small_disk.rglob("*") if path.is_file() and path.name != "other"]


def test_checkpoints_do_not_pass_through_the_temporary_folder(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    save_after_every_update(monkeypatch)
    monkeypatch.setattr("tempfile.mkstemp", lambda *_, **__: pytest.fail("a temporary file was made"))
    train(stage)
    assert newest("step-*.ckpt").stat().st_size > 1000


def test_a_full_disk_at_the_end_of_a_stage_is_one_line(
    stage: Stage, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["encoding", "bpe"])
    with pytest.raises(SystemExit) as ended, running_stage("encoding", small_disk / "encoded", "tokenizer") as this:
        (this.out / "large").write_bytes(b"x" * 2_000_000)
    assert ended.value.code == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("encoding@bpe: error: ")
    assert "No space left on device. Free some space, and run it again" in error


def test_an_output_on_another_file_system_replaces_the_one_before(small_disk: Path, tmp_path: Path) -> None:
    target = small_disk / "models" / "one"
    for text in ("first", "second"):
        with finished_folder(target, tmp_path / "partial") as folder:
            assert os.stat(folder).st_dev == os.stat(small_disk).st_dev
            (folder / "file").write_text(text)
        assert (target / "file").read_text() == text
    with pytest.raises(ConnectionAbortedError), finished_folder(target, tmp_path / "partial"):
        raise ConnectionAbortedError
    assert (target / "file").read_text() == "second"
    shutil.rmtree(target)
