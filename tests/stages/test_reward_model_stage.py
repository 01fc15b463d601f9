"""The stage on a small collection: every kind of variant trains, and each sees the rankings that it should."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from data.comparisons.importing.appending import append_rankings
from data.comparisons.ranking import Ranking
from data.tokenizer_training import TokenizerConfig, save_tokenizer, train_tokenizer
from lightning_modules.language_model.config import LanguageModelConfig, build_language_model
from lightning_modules.reward_model.module import RewardModelModule
from model_io.reward_model import load_reward_model
from stages import reward_model
from stages.framework import layout
from stages.framework.params import load_params
from stages.framework.stage import read_json
from stages.training import checkpoints

RANKINGS, LANGUAGE_MODEL = layout.COMPARISONS / "ours/rankings", layout.LANGUAGE_MODELS / "small"
LEARNS_FROM = {"backbone": "language_models/small", "collection": "ours"}
VARIANTS: dict[str, Any] = {
    "grouped": {},
    "prefix": {
        "trainable": "prefix",
        "prefix": {"num_virtual_tokens": 2, "projection_input_size": 8, "encoder_hidden_size": 8},
    },
    "top": {"trainable": "top_layers", "num_top_layers": 1, "template": "{prompt} {reference}"},
    "pairs": {"mode": "shuffled_pairs", "comparisons_share": 0.5},
    "listwise": {"loss": {"loss_type": "plackett_luce"}, "weighting": "labeler", "training_share": 0.5},
    "fold": {"held_out_labelers": {"fold": 2, "folds": 4}},
}


@pytest.fixture
def ranked(project: Path) -> Path:
    """A project with a language model and a collection: longer responses are better, four labelers, ties, one not ranked."""
    random = np.random.default_rng(0)
    rankings = []
    for i in range(80):
        lengths = random.permutation(np.arange(1, 9))[:4]
        responses = tuple("ab " * n + "cdefgh"[k] for k, n in enumerate(lengths.tolist()))
        order = (-lengths).argsort().argsort() + 1
        ranks: list[int | None] = order.tolist()
        if i % 5 == 0:
            ranks[0] = None
        elif i % 5 == 1:
            ranks = [min(rank, 3) for rank in order.tolist()]
        rankings.append(
            Ranking(prompt=f"prompt {i}", responses=responses, ranks=tuple(ranks), labeler=f"l{i % 4}", origin="test", reference="ab " * 9 + str(i))
        )  # fmt: skip
    append_rankings(rankings, RANKINGS)
    save_tokenizer(train_tokenizer(["prompt ab cd"], TokenizerConfig(vocab_size=300)), LANGUAGE_MODEL)
    torch.manual_seed(0)
    config = LanguageModelConfig(
        num_hidden_layers=2, hidden_size=16, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1
    )
    build_language_model(config, 300).save_pretrained(LANGUAGE_MODEL)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["reward_models"]["split"] = {"validation": 0.2, "test": 0.3}
    common = params["reward_models"]["common"]
    common["training"] |= {"learning_rate": 0.02, "num_train_epochs": 6, "warmup_steps": 0, "micro_batch_tokens": 300}
    params["reward_models"]["variants"] = {name: {**LEARNS_FROM, **config} for name, config in VARIANTS.items()}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    return project


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_learns_and_is_evaluated(ranked: Path, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stages.reward_model", variant])
    reward_model.main()
    folder = layout.REWARD_MODELS / variant
    summary, evaluation = read_json(folder / layout.SUMMARY), read_json(folder / layout.EVALUATED)
    assert evaluation["test"]["accuracy"] > 0.8
    assert evaluation["baselines"]["length_accuracy"] == 1
    assert evaluation["test"]["comparisons"] == summary["test"]["comparisons"]
    assert summary["best_of_n"]["picked_chrf"] > summary["best_of_n"]["mean_chrf"]
    model = load_reward_model(folder)
    case = {"prompt": "prompt 3", "reference": "ab " * 9 + "3", "responses": ["ab c", "ab ab ab ab ab ab d"]}
    worse, better = model.rewards([case])[0]
    assert better > worse
    frozen = AutoModelForCausalLM.from_pretrained(LANGUAGE_MODEL).model.state_dict()
    trained = AutoModelForSequenceClassification.from_pretrained(folder).model.state_dict()
    same = {name for name, value in frozen.items() if torch.equal(value, trained[name])}
    match variant:
        case "prefix":
            assert same == set(frozen)
            assert summary["trained_parameters"] < summary["parameters"]
        case "top":
            assert same == {n for n in frozen if n.startswith(("embed_tokens", "layers.0."))}
        case "fold":
            labelers = {f"l{i}" for i in range(4)}
            assert len(labelers - set(evaluation["labelers"])) == 1
            assert summary["rankings"]["held_out_labelers"] + summary["rankings"]["test"] < 40
            assert evaluation["held_out_labelers"]["accuracy"] > 0.8
        case _:
            assert same == set()


def test_rankings_that_are_too_long_are_dropped_or_cut_and_counted(
    ranked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["stages.reward_model", "grouped"])
    summaries = {}
    for overlong in ("drop", "truncate"):
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["reward_models"]["variants"]["grouped"] = {**LEARNS_FROM, "max_length": 36, "overlong": overlong}
        Path("params.yaml").write_text(yaml.safe_dump(params))
        reward_model.main()
        summaries[overlong] = read_json(layout.REWARD_MODELS / "grouped" / layout.SUMMARY)
    dropped, cut = summaries["drop"], summaries["truncate"]
    for part, rankings in cut["rankings"].items():
        assert cut["truncated"][part] == dropped["dropped"][part] == rankings - dropped["rankings"][part] > 0
        assert cut["dropped"][part] == dropped["truncated"][part] == 0
    assert cut["without_reference"] == {"train": 0, "validation": 0, "test": 0}


def test_demonstrations_have_mean_reward_zero(ranked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stages.reward_model", "grouped"])
    reward_model.main()
    model = load_reward_model(layout.REWARD_MODELS / "grouped")
    split = reward_model.split_by_prompt(reward_model.read_collection(RANKINGS), 0.2, 0.3)
    cases = [{"prompt": row["prompt"], "responses": [row["reference"]]} for row in split["train"]]
    assert abs(np.mean(np.concatenate(model.rewards(cases)))) < 1e-4


def test_a_prefix_that_leaves_no_room_is_an_error(
    ranked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("params.yaml").read_text()
    assert "num_virtual_tokens: 2\n" in text
    Path("params.yaml").write_text(text.replace("num_virtual_tokens: 2\n", "num_virtual_tokens: 2048\n"))
    monkeypatch.setattr(sys, "argv", ["stages.reward_model", "prefix"])
    with pytest.raises(SystemExit):
        reward_model.main()
    assert "2048 virtual tokens leave no room" in capsys.readouterr().err


def test_too_few_labelers_for_the_folds_is_an_error(
    ranked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("params.yaml").read_text().replace("fold: 2", "fold: 1").replace("folds: 4", "folds: 9")
    Path("params.yaml").write_text(text)
    assert load_params().reward_models.variants["fold"].held_out_labelers
    monkeypatch.setattr(sys, "argv", ["stages.reward_model", "fold"])
    with pytest.raises(SystemExit):
        reward_model.main()
    assert "9 folds of labelers, but the rankings are by 4" in capsys.readouterr().err


def with_variants(**variants: Any) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["reward_models"]["variants"] |= {name: {**LEARNS_FROM, **config} for name, config in variants.items()}
    params["language_models"] |= {"wider": {}, "retokenized": {}}
    Path("params.yaml").write_text(yaml.safe_dump(params))


def run(variant: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """Runs the stage; returns its learning curve."""
    monkeypatch.setattr(sys, "argv", ["stages.reward_model", variant])
    reward_model.main()
    curve: list[dict[str, float]] = read_json(layout.REWARD_MODELS / variant / layout.CURVE)
    return curve


@pytest.mark.parametrize("variant", ["grouped", "prefix", "top"])
def test_a_reward_model_starts_from_an_earlier_one(ranked: Path, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its backbone, head, prefix and, where no demonstration gives another, its bias; so with its loss and its rewards."""
    unchanged = {"learning_rate": 1e-12, "num_train_epochs": 1}
    with_variants(again={**VARIANTS[variant], "init_from": variant, "training": unchanged})
    loss = run(variant, monkeypatch)[-1]["validation_loss"]
    monkeypatch.setattr(reward_model, "DEMONSTRATIONS", 0)
    assert run("again", monkeypatch)[0]["validation_loss"] == pytest.approx(loss, abs=1e-5)
    earlier, again = (load_reward_model(layout.REWARD_MODELS / name) for name in (variant, "again"))
    assert again.bias == earlier.bias != 0
    case = {"prompt": "prompt 3", "reference": "ab " * 9 + "3", "responses": ["ab c", "ab ab ab ab ab ab d"]}
    assert again.rewards([case])[0] == pytest.approx(earlier.rewards([case])[0], abs=1e-4)
    assert torch.allclose(again.model.score.weight, earlier.model.score.weight, atol=1e-6)


@pytest.mark.parametrize("variant", ["grouped", "prefix", "top"])
def test_it_ends_the_same_when_it_was_interrupted(ranked: Path, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_variants(
        more={**VARIANTS[variant], "init_from": f"reward_models/{variant}", "training": {"num_train_epochs": 2}}
    )
    run(variant, monkeypatch)
    expected = run("more", monkeypatch)
    folder = layout.REWARD_MODELS / "more"
    weights = {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)

    def kill(module: RewardModelModule, batch: Any, batch_idx: int) -> None:
        if module.trainer.global_step == expected[0]["step"] + 2:
            raise ConnectionAbortedError("killed")

    with monkeypatch.context() as killing, pytest.raises(ConnectionAbortedError):
        killing.setattr(RewardModelModule, "on_train_batch_start", kill)
        run("more", monkeypatch)
    assert list(Path(".gradus/checkpoints").glob("*/*.ckpt"))
    assert run("more", monkeypatch) == expected
    assert {file.name: file.read_bytes() for file in folder.glob("*.safetensors")} == weights


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_from": "nothing"}, "init_from: nothing: no such folder. Give a model folder, or another item of reward_models.variants"),
        ({"init_from": "other"}, "reward_models.variants.other: init_from: other is what this stage itself makes"),
        ({"init_from": str(LANGUAGE_MODEL)}, "language_models/small: no reward.json in it"),
        ({"template": "{prompt}:"}, "is another model: template is '{prompt}' there, '{prompt}:' here"),
        ({"trainable": "prefix"}, "number of virtual tokens is 0 there, 10 here"),
        ({"backbone": "language_models/wider"}, "is another model: hidden_size is 16 there, 32 here"),
        ({"backbone": "language_models/retokenized"}, "has another tokenizer: 1 of 261 tokens differ, e.g. 260 is 'ab' there, 'cd' here"),
    ],
)  # fmt: skip
def test_another_reward_model_is_refused_and_its_difference_named(
    ranked: Path,
    changes: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
    for name, hidden_size, text in (("wider", 32, "ab cd"), ("retokenized", 16, "xy cd")):
        tokenizer = train_tokenizer([text] * 3, TokenizerConfig(vocab_size=261))
        save_tokenizer(tokenizer, layout.LANGUAGE_MODELS / name)
        config = LanguageModelConfig(hidden_size=hidden_size, **sizes)
        build_language_model(config, 261).save_pretrained(layout.LANGUAGE_MODELS / name)
    save_tokenizer(train_tokenizer(["ab cd"] * 3, TokenizerConfig(vocab_size=261)), LANGUAGE_MODEL)
    config = LanguageModelConfig(hidden_size=16, **sizes)
    build_language_model(config, 261).save_pretrained(LANGUAGE_MODEL)
    with_variants(other={"init_from": "grouped", **changes})
    run("grouped", monkeypatch)
    with pytest.raises(SystemExit) as ended:
        run("other", monkeypatch)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
