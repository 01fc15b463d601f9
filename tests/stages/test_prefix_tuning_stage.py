"""The stage on a small corpus: every kind of variant trains, keeps what it should, and refuses what it cannot read."""

import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from data.arrow import read_split
from data.tokenizer_training import TokenizerConfig, save_tokenizer, train_tokenizer
from lightning_modules.language_model.config import LanguageModelConfig, build_language_model
from lightning_modules.prefix_tuning.task import Sample, read_inputs
from lightning_modules.training.likelihood import MaximumLikelihoodModule
from model_io.language_model import load_language_model
from stages import prefix_tuning
from stages.framework import layout
from stages.framework.stage import read_json
from stages.training import checkpoints

TRAINING = {"num_train_epochs": 8, "learning_rate": 0.02, "batch_tokens": 200}
TABLE = {"num_virtual_tokens": 4, "projection_input_size": 8, "encoder_hidden_size": 8, "training": TRAINING}
VARIANTS: dict[str, Any] = {
    "none": {"kind": "none"},
    "prefix": {"kind": "prefix", **TABLE, "prompt_tuning_init_text": "ab cd", "dropout": 0.1},
    "flat": {
        "kind": "prefix",
        "num_virtual_tokens": 4,
        "prefix_projection": False,
        "training": TRAINING,
        "share_references": False,
    },
    "infix": {"kind": "prefix", **TABLE, "position": "infix", "gradient_checkpointing": True},
    "prompt_tuning": {"kind": "prompt_tuning", "num_virtual_tokens": 4, "training": TRAINING},
    "top": {"kind": "top_layers", "num_top_layers": 1, "training": TRAINING},
    "full": {"kind": "full", "training": TRAINING},
    "few": {"kind": "full", "training": TRAINING, "examples": 5, "seed": 7, "sampled": "pairs", "keep_weights": False},
    "long": {"kind": "prefix", "num_virtual_tokens": 95, "prefix_projection": False},
}


BASE = layout.BASE_MODELS / "smollm2"


@pytest.fixture
def task(project: Path) -> Path:
    """A project with a base of 96 positions, and inputs with three references each that say the input twice."""
    for split, count in (("train", 30), ("validation", 4), ("test", 5)):
        sources = [f"ab {'cd ' * (i % 4)}{split[0]}{i}" for i in range(count) for _ in range(3)]
        targets = [f"{s} {w} {s}" for s, w in zip(sources, ["so", "and", "or"] * count, strict=True)]
        datasets.Dataset.from_dict({"source": sources, "target": targets}).save_to_disk(layout.CORPUS / split)
    (layout.CORPUS / layout.SUMMARY).write_text(json.dumps({"target_language": "en"}), encoding="utf-8")
    save_tokenizer(train_tokenizer(["ab cd so and or"] * 3, TokenizerConfig(vocab_size=300)), BASE)
    torch.manual_seed(0)
    config = LanguageModelConfig(
        num_hidden_layers=2,
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=96,
    )
    build_language_model(config, 300).save_pretrained(BASE)
    params = yaml.safe_load(Path("params.yaml").read_text())
    task = {
        "template": "{source} means", "examples": None, "validation_examples": 6, "test_examples": 4, "max_length": 90,
        "max_new_tokens": 5,
    }  # fmt: skip
    params["prefix_tuning"] = {"base_model": "smollm2", "task": task, "variants": VARIANTS}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    return project


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["prefix_tuning", name])
    prefix_tuning.main()
    summary: dict[str, Any] = read_json(layout.PREFIXES / name / layout.SUMMARY)
    return summary


def test_every_kind_learns_and_keeps_what_it_should(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (BASE / "model.safetensors").read_bytes()
    base = load_file(BASE / "model.safetensors")
    size = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(BASE).parameters())
    summaries = {name: run(name, monkeypatch) for name in VARIANTS if name != "long"}
    assert {name: s["kept_parameters"] for name, s in summaries.items()} == {
        "none": 0, "prefix": 4 * 2 * 2 * 8, "flat": 4 * 2 * 2 * 8, "infix": 4 * 2 * 2 * 8, "prompt_tuning": 4 * 16,
        "top": summaries["top"]["trained_parameters"], "full": size, "few": size,
    }  # fmt: skip
    for name, summary in summaries.items():
        assert summary["examples"] == (5 if name == "few" else 90)
        assert summary["test_inputs"] == 4
        assert summary["outputs_cut"] <= 4
        assert summary["share_of_base"] == pytest.approx(summary["kept_parameters"] / size)
        if name not in ("none", "few"):
            assert summary["test_loss"] < summaries["none"]["test_loss"], name
            assert summary["examples_per_second"] > 0
    assert summaries["none"]["outputs_cut"] == 4  # what has learned nothing does not end
    assert all(len(e["references"]) == 3 for e in read_json(layout.PREFIXES / "none" / layout.EXAMPLES))
    assert (BASE / "model.safetensors").read_bytes() == before
    assert summaries["prefix"]["file_bytes"] < 2000 < summaries["full"]["file_bytes"]
    assert not (layout.PREFIXES / "few" / "model.safetensors").exists()
    top = load_file(layout.PREFIXES / "top" / "model.safetensors")
    changed = {name.split(".")[2] for name, p in top.items() if not torch.equal(p, base[name])}
    assert changed == {"1"}  # the upper of two layers; embeddings and norms are as they were


def read(task: Path, examples: int | None = None, max_length: int = 90, **options: Any) -> Sample:
    """A sample of the training split."""
    _, tokenizer = load_language_model(BASE)
    rows, options = read_split(layout.CORPUS, "train"), {"seed": 0, "template": "{source}", **options}
    where = layout.CORPUS / "train"
    return read_inputs("stage", rows, where, examples, tokenizer=tokenizer, max_length=max_length, **options)


def test_a_sample_is_the_same_for_the_same_seed_and_a_larger_one_holds_it(task: Path) -> None:
    def pairs(**options: Any) -> set[tuple[str, tuple[int, ...]]]:
        return {(i.source, tuple(t)) for i in read(task, **options).inputs for t in i.targets}

    small, large = (pairs(examples=n, seed=1, by="pairs") for n in (10, 40))
    assert (len(small), len(large)) == (10, 40)
    assert small < large
    assert small == pairs(examples=10, seed=1, by="pairs")
    assert small != pairs(examples=10, seed=2, by="pairs")
    whole = read(task, examples=10, seed=1).inputs
    assert [len(i.targets) for i in whole] == [3, 3, 3, 1]
    assert all(len(i.references) == 3 for i in whole)


def test_a_prefix_that_leaves_no_room_is_refused(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("long", monkeypatch)
    assert "95 virtual tokens leave no room for text in the base's context of 96" in capsys.readouterr().err
    assert not (layout.PREFIXES / "long").exists()


def test_outputs_that_do_not_fit_are_refused_before_training(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["prefix_tuning"]["task"]["max_new_tokens"] = 90
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(SystemExit):
        run("prefix", monkeypatch)
    said = capsys.readouterr()
    assert "no test input leaves room for 90 tokens (prefix_tuning.task.max_new_tokens)" in said.err
    assert "epoch" not in said.out


def test_an_empty_target_is_named(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"source": ["a", "b"], "target": ["c", "  "]}
    datasets.Dataset.from_dict(rows).save_to_disk(layout.CORPUS / "validation")
    with pytest.raises(SystemExit):
        run("none", monkeypatch)
    assert "artifacts/corpus/validation, row 2: an empty target" in capsys.readouterr().err


def test_what_is_too_long_is_counted(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["prefix_tuning"]["task"]["max_length"] = 33
    Path("params.yaml").write_text(yaml.safe_dump(params))
    summary = run("none", monkeypatch)
    printed = capsys.readouterr().out
    dropped = summary["dropped"]["train"]
    assert f"train: {summary['examples']} examples of" in printed
    assert f"pairs longer than 33 tokens: {dropped} dropped, 0 truncated" in printed
    assert summary["examples"] == 90 - dropped > 0 < dropped
    assert summary["truncated"]["train"] == 0
    params["prefix_tuning"]["task"]["max_length"] = 3
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(SystemExit):
        run("none", monkeypatch)
    assert "no pair has at most 3 tokens" in capsys.readouterr().err


def test_a_target_that_is_too_long_is_cut_and_counted(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["prefix_tuning"]["task"] |= {"max_length": 33, "overlong": "truncate"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    summary = run("prompt_tuning", monkeypatch)
    assert summary["examples"] == 90
    assert summary["dropped"]["train"] == 0
    assert 0 < summary["truncated"]["train"] < 90
    assert summary["test_loss"] > 0


def test_a_cut_target_has_the_beginning_of_the_whole_one_and_a_prompt_is_never_cut(task: Path) -> None:
    whole, cut = (read(task, max_length=length, overlong="truncate") for length in (90, 20))
    assert (whole.dropped, whole.truncated) == (0, 0)
    targets = {i.source: (i.prompt, i.targets) for i in whole.inputs}
    for i in cut.inputs:
        prompt, full = targets[i.source]
        assert i.prompt == prompt
        assert i.targets == [target[: 20 - len(prompt)] for target in full]
    pairs = [len(p) + len(t) for p, full in targets.values() for t in full]
    assert cut.truncated == sum(length > 20 for length in pairs) > 0
    shortest = min(len(prompt) for prompt, _ in targets.values())
    tight = read(task, max_length=shortest + 2, overlong="truncate")
    assert len(tight.inputs) < len(whole.inputs)
    assert tight.dropped + tight.truncated == 90


def with_variants(**variants: Any) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["prefix_tuning"]["variants"] |= variants
    Path("params.yaml").write_text(yaml.safe_dump(params))


def without(keys: set[str], variant: str) -> dict[str, Any]:
    return {key: value for key, value in VARIANTS[variant].items() if key not in keys}


STARTED = ["prefix", "flat", "infix", "prompt_tuning", "top", "full"]


@pytest.mark.parametrize("name", STARTED)
def test_a_variant_starts_from_an_earlier_one(task: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its loss. An MLP is not kept: a new one gives the P of the earlier one."""
    unchanged = {**TRAINING, "learning_rate": 1e-12, "num_train_epochs": 1}
    common = without({"prompt_tuning_init_text", "dropout"}, name)
    with_variants(again={**common, "init_from": name, "training": unchanged})
    loss, start = run(name, monkeypatch)["validation_loss"], read_json(layout.PREFIXES / name / layout.CURVE)[0]
    assert run("again", monkeypatch)["validation_loss"] == pytest.approx(loss, abs=1e-5)
    assert abs(start["validation_loss"] - loss) > 1e-4
    files = {file.name for file in (layout.PREFIXES / name).glob("*.safetensors")}
    for file in files:
        earlier, again = (load_file(layout.PREFIXES / variant / file) for variant in (name, "again"))
        assert all(torch.allclose(again[key], value, atol=1e-5) for key, value in earlier.items())
    assert len(files) == 1


@pytest.mark.parametrize("name", STARTED)
def test_it_ends_the_same_when_it_was_interrupted(task: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout: its random state is continued, too."""
    common = without({"prompt_tuning_init_text"}, name)
    training = {**TRAINING, "num_train_epochs": 2, "learning_rate": 0.01}
    with_variants(more={**common, "init_from": f"prefix_tuning/{name}", "training": training})
    run(name, monkeypatch)
    run("more", monkeypatch)
    folder = layout.PREFIXES / "more"
    (file,) = folder.glob("*.safetensors")
    expected, curve = file.read_bytes(), read_json(folder / layout.CURVE)
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)

    def kill(module: MaximumLikelihoodModule, batch: Any, batch_idx: int) -> None:
        if module.trainer.global_step == curve[0]["step"] + 2:
            raise ConnectionAbortedError("killed")

    with monkeypatch.context() as killing, pytest.raises(ConnectionAbortedError):
        killing.setattr(MaximumLikelihoodModule, "on_train_batch_start", kill)
        run("more", monkeypatch)
    assert list(Path(".gradus/checkpoints").glob("*/*.ckpt"))
    run("more", monkeypatch)
    assert read_json(folder / layout.CURVE) == curve
    assert file.read_bytes() == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_virtual_tokens": 5}, "prefix is another model: num_virtual_tokens is 4 there, 5 here"),
        ({"position": "infix"}, "position is 'prefix' there, 'infix' here"),
        ({"kind": "prompt_tuning"}, "kind is 'prefix' there, 'prompt_tuning' here"),
        ({"encoder_hidden_size": 3}, "3 hidden units cannot give 4 virtual tokens their first values"),
        ({"init_from": str(layout.CORPUS)}, "no prefix.json in it"),
        ({"prompt_tuning_init_text": "ab"}, "a prefix can start from one of them only"),
        ({"kind": "none"}, "init_from"),
    ],
)
def test_another_prefix_is_refused_and_its_difference_named(
    task: Path,
    changes: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is started from in silence that would compute something else."""
    run("prefix", monkeypatch)
    sizes = {} if "kind" in changes else {"projection_input_size": 8, "encoder_hidden_size": 8}
    table = {} if changes.get("kind") == "none" else {"num_virtual_tokens": 4, "training": TRAINING}
    with_variants(other={"kind": "prefix", **table, **sizes, "init_from": "prefix", **changes})
    with pytest.raises(SystemExit) as ended:
        run("other", monkeypatch)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_prefix_of_another_base_or_template_is_refused(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_variants(again={**VARIANTS["flat"], "init_from": "flat"})
    run("flat", monkeypatch)
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("template: '{source} means'", "template: '{source} is'"))
    with pytest.raises(SystemExit):
        run("again", monkeypatch)
    assert "template is '{source} means' there, '{source} is' here" in capsys.readouterr().err
    Path("params.yaml").write_text(text)
    base, _ = load_language_model(BASE)
    next(base.parameters()).data += 1
    base.save_pretrained(BASE)
    with pytest.raises(SystemExit):
        run("again", monkeypatch)
    assert "this prefix was trained on artifacts/base_models/smollm2" in capsys.readouterr().err


def test_a_variant_that_kept_no_weights_is_nothing_to_start_from(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_variants(again={**VARIANTS["full"], "init_from": "few"})
    run("few", monkeypatch)
    with pytest.raises(SystemExit):
        run("again", monkeypatch)
    assert "few: no config.json in it: not a model folder" in capsys.readouterr().err
