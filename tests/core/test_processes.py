"""Two processes learn what one would, and leave one output, one run and no process behind."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

import stages.corpus
import stages.encoding
import stages.tokenizer
from core.processes import VARIABLE
from stages.framework.params import load_params
from stages.framework.stage import read_json

PROJECT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "stages.pretraining", "transformer"]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a small encoded corpus, where a transformer without dropout is to be trained."""
    with pytest.MonkeyPatch.context() as patch:
        yield prepared(tmp_path_factory.mktemp("project"), patch)


def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.setenv("GRADUS_CHECKPOINT_SECONDS", "0.2")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("GRADUS_PARENT_RUN", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "dvc.yaml").write_text((PROJECT / "dvc.yaml").read_text())
    values = yaml.safe_load((PROJECT / "params.yaml").read_text())
    values = {section: values[section] for section in ("format", "seed", "pretraining", "evaluation")}
    values["corpus"] = {"kjv_bbe": {"limit": 600, "validation": 0.1, "test": 0.1, "prompts": 0.1}}
    values["tokenizer"] = {"bpe": {"vocab_size": 500}}
    values["encoding"] = {"max_length": 100}
    training = {
        "lr_scheduler_type": "constant",
        "learning_rate": 0.005,
        "num_train_epochs": 5,
        "batch_tokens": 400,
        "average_last": 2,
    }
    sizes = {"num_layers": 1, "hidden_size": 32, "ff_size": 64, "num_heads": 2, "dropout": 0.0}
    values["pretraining"]["architectures"] = {"transformer": {**sizes, "training": training}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    load_params()
    for stage, item in ((stages.corpus, "kjv_bbe"), (stages.tokenizer, "bpe"), (stages.encoding, "bpe")):
        monkeypatch.setattr(sys, "argv", [stage.__name__, item])
        stage.main()
    return tmp_path / "artifacts/translators/transformer"


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that torchrun has started for the stage."""
    return [
        p for p in psutil.Process(process.pid).children(recursive=True) if "stages.pretraining" in " ".join(p.cmdline())
    ]


def test_two_processes_learn_what_one_learns_after_a_kill_too(encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(COMMAND, check=True)
    assert not list(Path(".gradus/checkpoints").glob("*/*"))
    alone, weights = read_json(encoded / "curve.json"), load_file(encoded / "model.safetensors")
    summary = read_json(encoded / "summary.json")

    monkeypatch.setenv(VARIABLE, "2")
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    for line in process.stdout:
        if "epoch 1: " in line:
            break
    started = children(process)
    assert len(started) == 2
    assert list(Path(".gradus/checkpoints").glob("*/*.ckpt"))
    os.kill(process.pid, signal.SIGKILL)  # the agent alone: its processes have sessions of their own
    process.communicate()
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive

    done = subprocess.run(COMMAND, check=True, capture_output=True, text=True)
    together = read_json(encoded / "curve.json")
    assert [(e["epoch"], e["step"]) for e in together] == [(e["epoch"], e["step"]) for e in alone]
    for one, two in zip(alone, together, strict=True):
        for key in ("train_loss", "validation_loss"):
            assert two[key] == pytest.approx(one[key], rel=1e-4)
    for name, value in load_file(encoded / "model.safetensors").items():
        torch.testing.assert_close(value, weights[name], rtol=1e-2, atol=1e-3)
    assert read_json(encoded / "summary.json")["tokens"] == summary["tokens"]
    assert done.stdout.count("continues from") == 1  # one of the two speaks
    assert done.stdout.count("weights of the mean of updates") == 1
    assert together[-1]["train_loss"] < together[0]["train_loss"] - 0.3
    runs = mlflow.MlflowClient(f"sqlite:///{Path('tracking/mlflow.db').resolve()}").search_runs(
        ["1"], "tags.`gradus.stage` = 'pretraining@transformer'"
    )
    # The killed one ends by itself, or when the other process does not answer any more, whichever comes first.
    assert sorted(run.info.status for run in runs) in (
        ["FINISHED", "FINISHED", "KILLED"],
        ["FAILED", "FINISHED", "FINISHED"],
    )


def test_a_full_disk_at_a_checkpoint_holds_up_no_other_process(
    encoded: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning makes all processes wait for the one that writes."""
    monkeypatch.setenv(VARIABLE, "2")
    (small_disk / "other").write_bytes(b"x" * 1_040_000)
    folder = Path(".gradus/checkpoints")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    folder.symlink_to(small_disk)
    done = subprocess.run(COMMAND, check=False, capture_output=True, text=True, timeout=120)
    assert done.stdout.count("no checkpoint could be written (No space left on device)") == 1, done.stdout + done.stderr
