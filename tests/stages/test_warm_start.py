"""A translator, or the language model, that starts from an earlier one: with its loss, and nothing else of it."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import numpy as np
import pytest
import yaml

from core import tracking
from data.tokenizer_training import TokenizerConfig, save_tokenizer, train_tokenizer
from lightning_modules.training.likelihood import MaximumLikelihoodModule
from stages import language_model, pretraining
from stages.framework import layout
from stages.framework.stage import read_json
from stages.training import checkpoints

TRAINING = {
    "optimizer": "adam",
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "learning_rate": 0.02,
    "num_train_epochs": 2,
    "batch_tokens": 100,
}
UNCHANGED = {**TRAINING, "learning_rate": 1e-12, "num_train_epochs": 1}
SIZES = {
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
STAGES: dict[str, tuple[ModuleType, Path, dict[str, Any]]] = {  # the stage, its output, and a config
    "transformer": (
        pretraining,
        layout.TRANSLATORS / "transformer",
        {"num_layers": 1, "hidden_size": 16, "ff_size": 32, "num_heads": 2, "dropout": 0.2},
    ),
    "luong": (pretraining, layout.TRANSLATORS / "luong", {"embedding_dim": 12, "hidden_size": 16}),
    "language_model": (language_model, layout.LANGUAGE_MODELS / "language_model", SIZES),
}
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def encoded(project: Path) -> Path:
    """A project with a tokenizer and encoded pairs, whose target repeats the source."""
    save_tokenizer(train_tokenizer(["ab cd"] * 3, TokenizerConfig(vocab_size=262)), layout.TOKENIZER)
    random = np.random.default_rng(0)
    for split, count in (("train", 80), ("validation", 12)):
        texts = [random.integers(4, 60, random.integers(2, 9)).tolist() for _ in range(count)]
        features = datasets.Features({side: datasets.List(datasets.Value("int32")) for side in ("source", "target")})
        rows = datasets.Dataset.from_dict({"source": texts, "target": texts}, features=features)
        rows.save_to_disk(layout.ENCODED / split)
    return project


@pytest.fixture
def run(encoded: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a stage with what differs from its config; returns its summary and learning curve."""

    def run(name: str, **changes: Any) -> dict[str, Any]:
        stage, out, config = STAGES[name]
        params = yaml.safe_load(Path("params.yaml").read_text())
        sections = ["format", "seed", "corpus", "tokenizer", "encoding", "evaluation", "pretraining"]
        params = {section: params[section] for section in sections}
        item = {name: {**config, "training": TRAINING, **changes}}
        if stage is language_model:
            params["language_models"] = item
        else:
            params["pretraining"]["architectures"] = item
        Path("params.yaml").write_text(yaml.safe_dump(params))
        monkeypatch.setattr(sys, "argv", ["stage", name])
        stage.main()
        return {**read_json(out / layout.SUMMARY), "curve": read_json(out / layout.CURVE)}

    return run


def earlier(name: str) -> str:
    """A copy of what the stage made: it makes its own folder again."""
    shutil.copytree(STAGES[name][1], "earlier")
    return "earlier"


@pytest.mark.parametrize("name", STAGES)
def test_the_first_loss_is_the_earlier_models_last(name: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    loss = run(name)["curve"][-1]["validation_loss"]
    fresh = run(name, training=UNCHANGED)["curve"][0]["validation_loss"]
    run(name)
    again = run(name, training=UNCHANGED, init_from=earlier(name))["curve"][0]["validation_loss"]
    assert again == pytest.approx(loss, abs=1e-5)
    assert abs(fresh - loss) > 0.1
    assert "starts from the weights of earlier\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", STAGES)
def test_interrupted_and_resumed_it_ends_the_same(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an optimizer and a schedule of its own: the first update has the first rate."""
    weights = STAGES[name][1] / "model.safetensors"
    run(name)
    changes = {"init_from": earlier(name), "training": {**TRAINING, "learning_rate": 0.01, "warmup_steps": 3}}
    expected = run(name, **changes)
    bytes_expected = weights.read_bytes()
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    killed_at = expected["updates"] // 2 + 2

    def kill(module: MaximumLikelihoodModule, batch: Any, batch_idx: int) -> None:
        if module.trainer.global_step == killed_at:
            raise ConnectionAbortedError("killed")
        if module.trainer.global_step == 0:
            (optimizer,) = module.trainer.optimizers
            assert not optimizer.state
            assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 / 3)

    with monkeypatch.context() as killing, pytest.raises(ConnectionAbortedError):
        killing.setattr(MaximumLikelihoodModule, "on_train_batch_start", kill)
        run(name, **changes)
    assert list(Path(".gradus/checkpoints").glob("*/*.ckpt"))
    resumed = run(name, **changes)
    assert resumed["curve"] == expected["curve"]
    assert weights.read_bytes() == bytes_expected


def test_another_earlier_model_is_another_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content of its folder is in the key of the checkpoints, and in the run's record."""
    run("luong")
    folder, names = Path(earlier("luong")), []
    monkeypatch.setattr(checkpoints.Checkpoints, "latest", lambda self: names.append(self.folder.name))
    for content in ("1", "2", "1"):
        (folder / "note").write_text(content)
        run("luong", init_from="earlier", training=UNCHANGED)
    assert names[0] == names[2] != names[1]
    (run_of_mlflow, *_) = tracking.client().search_runs(
        [tracking.experiment()], "tags.`gradus.stage` = 'pretraining@luong'"
    )
    assert "earlier" in [entry.dataset.name for entry in run_of_mlflow.inputs.dataset_inputs]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("transformer", {"hidden_size": 32}, "is another model: hidden_size is 16 there, 32 here"),
        ("transformer", {"layer_norm": "pre"}, "layer_norm is 'post' there, 'pre' here"),
        (
            "luong",
            {"score": "dot", "input_feeding": False},
            "score is 'general' there, 'dot' here; input_feeding is True there, False",
        ),
        ("language_model", {"hidden_size": 32}, "hidden_size is 16 there, 32 here"),
        ("language_model", {"num_hidden_layers": 2}, "num_hidden_layers is 1 there, 2 here"),
    ],
)
def test_another_architecture_is_refused_and_its_difference_named(
    name: str, changes: dict[str, Any], message: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run(name)
    with pytest.raises(SystemExit) as ended:
        run(name, init_from=earlier(name), **changes)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_translator_of_another_architecture_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("luong")
    with pytest.raises(SystemExit):
        run("transformer", init_from=earlier("luong"))
    assert (
        "init_from: earlier is another model: architecture is 'luong' there, 'transformer' here"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize(
    ("text", "size", "difference"),
    [
        ("ab cd", 261, "262 tokens there, 261 here"),
        ("ef gh", 262, "2 of 262 tokens differ, e.g. 260 is 'ab' there, 'ef' here"),
    ],
)
def test_another_tokenizer_is_refused(
    name: str, text: str, size: int, difference: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run(name)
    folder = earlier(name)
    save_tokenizer(train_tokenizer([text] * 3, TokenizerConfig(vocab_size=size)), layout.TOKENIZER)
    with pytest.raises(SystemExit):
        run(name, init_from=folder)
    assert f"init_from: earlier has another tokenizer: {difference}" in capsys.readouterr().err
