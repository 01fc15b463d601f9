"""What was written in format 1 is read, converted, and computes the same. tests/fixtures/format_1/make.py made it with the old code."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from core import experiments
from core.errors import InputError
from core.format_1 import FORMAT, converted, old_names
from data.comparisons.collection import rankings, read_collection
from data.comparisons.importing.rankings import import_rankings
from data.comparisons.importing.source import Source
from data.comparisons.jsonl import write_jsonl
from data.tokenizer import decode, encode, load_tokenizer
from lightning_modules.decoding.translation import DecodingConfig, translate
from lightning_modules.encoder_decoder_prefix.translator import PrefixedTransformer
from lightning_modules.generation.generate import GenerateConfig, generate
from lightning_modules.language_model.prompts import end_token, prompts
from lightning_modules.prefix_tuning.prefix import NoPrefix
from lightning_modules.training.config import without_unread
from lightning_modules.translators.base import Translator
from model_io.encoder_decoder_prefix import load_encoder_decoder_prefix
from model_io.language_model import load_language_model
from model_io.prefix import load_prefix, save_prefix
from model_io.reward_model import load_reward_model
from model_io.translator import load_translator, save_translator
from stages.framework.params import check_params

PROJECT = Path(__file__).parents[1]
FIXTURES = PROJECT / "tests/fixtures/format_1"


def without_unread_keys(values: Any) -> Any:
    """The values without keys of a training that its optimizer or schedule does not read. Format 1 allowed these."""
    if isinstance(values, dict):
        return {key: without_unread_keys(value) for key, value in without_unread(values, values).items()}
    return [without_unread_keys(value) for value in values] if isinstance(values, list) else values


def expected(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.expected.json").read_text(encoding="utf-8"))


def check_translations(model: Translator, cases: list[dict[str, Any]]) -> None:
    tokenizer = load_tokenizer(FIXTURES / "translators/transformer")
    sources = encode(tokenizer, [case["sentence"] for case in cases])
    config = DecodingConfig(beam_size=3, beam_alpha=0.6, extra_tokens=4)
    best = {i: hypotheses[0] for i, hypotheses in translate(model, sources, config)}
    for i, case in enumerate(cases):
        assert best[i].tokens == case["pieces"]
        assert decode(tokenizer, [best[i].tokens]) == [case["text"]]
        assert best[i].score == pytest.approx(case["score"], abs=1e-4)


@pytest.mark.parametrize("name", ["transformer", "luong", "gru", "bahdanau", "seq2seq"])
def test_a_translator(name: str, tmp_path: Path) -> None:
    model, _, architecture = load_translator(FIXTURES / "translators" / name)
    assert architecture == name
    check_translations(model, expected("translators")[name])
    training = model.config.training  # type: ignore[attr-defined]  # every architecture keeps its config
    assert (training.num_train_epochs, training.batch_tokens, training.lr_scheduler_type) == (3, 300, "cosine")
    assert (training.max_grad_norm, training.average_last, training.early_stopping_patience) == (2.5, 2, 4)
    assert (training.precision, training.normalization, training.min_lr_rate) == ("bf16-mixed", "batch", 0.2)
    save_translator(tmp_path, name, model, model.config, FIXTURES / "translators" / name)  # type: ignore[attr-defined, arg-type]
    assert json.loads((tmp_path / "config.json").read_text())["format"] == FORMAT
    check_translations(load_translator(tmp_path)[0], expected("translators")[name])


def test_an_altered_translator_of_format_1_is_still_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "luong"
    shutil.copytree(FIXTURES / "translators/luong", folder)
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["reverse_source"] = True
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="it was altered since the model was saved"):
        load_translator(folder)


def test_a_translator_of_a_later_format_is_refused(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "translators/gru", tmp_path / "gru")
    path = tmp_path / "gru/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 3}))
    with pytest.raises(InputError, match=r"config\.json: format 3: this version of Gradus reads formats 1 and 2"):
        load_translator(tmp_path / "gru")


@pytest.mark.parametrize("kind", [None, "prefix", "infix", "embedding", "none"])
def test_a_language_model_and_its_prefixes(kind: str | None, tmp_path: Path) -> None:
    folder = FIXTURES / "language_model"
    base, tokenizer = load_language_model(folder)

    def check(adapter: Any, template: str) -> None:
        cases = expected("prefixes")[kind] if kind else expected("language_model")
        ids = prompts(tokenizer, template, [case["prompt"] for case in cases])
        assert ids == [case["prompt_pieces"] for case in cases]
        config = GenerateConfig(beam_size=1, max_new_tokens=12)
        assert generate(base, adapter, ids, [end_token(tokenizer, folder)], config) == [c["pieces"] for c in cases]

    if kind is None:
        check(NoPrefix(), "{source}")
        return
    adapter, template, new_kind = load_prefix(FIXTURES / "prefixes" / kind, base, folder)
    assert new_kind == {"embedding": "prompt_tuning", "infix": "prefix"}.get(kind, kind)
    check(adapter, template)
    save_prefix(tmp_path, new_kind, adapter, folder, template)
    adapter, template, _ = load_prefix(tmp_path, base, folder)
    check(adapter, template)


@pytest.mark.parametrize("name", ["all", "prefix"])
def test_a_reward_model(name: str) -> None:
    model, values = load_reward_model(FIXTURES / "reward_models" / name), expected("reward_models")[name]
    assert (model.bias, model.temperature) == (values["bias"], values["temperature"])
    for rewards, case in zip(model.rewards(values["cases"]), values["cases"], strict=True):
        assert rewards.tolist() == pytest.approx(case["rewards"], abs=1e-5)


def test_a_prefix_of_an_encoder_decoder() -> None:
    folder = FIXTURES / "translators/transformer"
    base: Any = load_translator(folder)[0]
    prefix = load_encoder_decoder_prefix(FIXTURES / "encoder_decoder_prefix", base, folder)
    check_translations(PrefixedTransformer(base, prefix), expected("encoder_decoder_prefix")["translations"])


def test_a_collection_is_read_and_added_to(tmp_path: Path) -> None:
    def lines() -> list[Any]:
        write_jsonl(rankings(read_collection(tmp_path / "collection")), tmp_path / "out.jsonl")
        return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]

    shutil.copytree(FIXTURES / "collection", tmp_path / "collection")
    assert lines() == expected("collection")
    more = tmp_path / "new.jsonl"
    more.write_text(json.dumps({"prompt": "new", "responses": ["a", "b"], "ranks": [2, 1], "labeler": "ann"}) + "\n")
    import_rankings([Source(source=str(more))], tmp_path / "collection", strict=True)
    assert lines()[:-1] == expected("collection")
    assert json.loads((tmp_path / "collection/state.json").read_text())["format"] == FORMAT


LATER_COLUMNS = (  # than format 1
    "user_turns", "response", "winner", "strength", "whole_conversations", "judged_turn", "speakers", "join_pairs",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(expected("experiments").keys() - {"default"}))
def test_an_experiment(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FIXTURES / "experiments", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    values = YAML(typ="safe").load(experiments.rendered(name))
    old = converted(expected("experiments")[name])
    if name == "every_key":
        with pytest.raises(InputError, match=r"training: .*min_lr_rate is read with lr_scheduler_type cosine only"):
            check_params(values, name)
        values, old = (without_unread_keys(read) for read in (values, old))
        values["reward_models"]["variants"]["whole"]["training"]["min_lr_rate"] = 0.35  # its own schedule reads it
    new = without_unread_keys(check_params(values, name).model_dump(mode="json"))
    # Every value that an experiment had then, it has now: the sections are arranged differently.
    moved = {"name", "kind", "reference_labeler", "backbone", "source", "imports", "common"}
    if not old["comparisons"]["reference_labeler"]:  # nothing reads them then
        moved |= {"tie_margin", "min_responses", "max_responses"}
    had, has = (Counter(leaves(values, moved)) for values in (without_unread_keys(old), new))
    assert list((had - has).elements()) == []
    assert new["corpus"]["name"] == old["corpus"]["name"]
    collection = "ours" if old["comparisons"]["reference_labeler"] else "people"
    collections = {**new["reference_comparisons"], **new["comparisons"]}
    assert [s["source"] for s in collections[collection]["imports"]] == [
        s["source"] for s in old["comparisons"]["imports"]
    ]
    for variant, config in new["reward_models"]["variants"].items():
        backbone = old["reward_models"]["variants"][variant]["backbone"]
        expected_backbone = {"language_model": "language_models/small", "base_model": "base_models/base"}.get(backbone)
        assert config["collection"] == collection
        assert (
            config["backbone"] == expected_backbone
            or new["base_models"][config["backbone"].partition("/")[2]]["source"] == backbone
        )
    assert new["base_models"]["base"] == old["base_model"]


def leaves(values: Any, without: set[str], key: str = "") -> Iterator[tuple[str, str]]:
    """The values of nested mappings with their keys."""
    if isinstance(values, dict):
        for inner, value in values.items():
            if inner not in without:
                yield from leaves(value, without, inner)
    else:
        yield key, json.dumps(values)


def test_params_of_an_older_format_are_an_error_that_names_the_new_keys() -> None:
    values = YAML(typ="safe").load((FIXTURES / "experiments/every_key.yaml").read_text())
    with pytest.raises(InputError) as error:
        check_params(values, "params.yaml")
    said = str(error.value)
    assert "params.yaml: key 'tokenizer.vocabulary' is called 'vocab_size' now" in said
    assert "format 1: the sections are arranged differently now (format 3)" in said
    assert said.count("is called") > 50
    assert len(list(old_names())) > 50


def test_an_old_key_in_params_is_an_error_that_names_the_new_one() -> None:
    values = YAML(typ="safe").load((PROJECT / "params.yaml").read_text())
    values["language_models"]["small"]["layers"] = 2
    values["prefix_tuning"]["task"]["beam"] = 2
    with pytest.raises(InputError) as error:
        check_params(values, "params.yaml")
    assert "key 'language_models.small.layers' is called 'num_hidden_layers' now" in str(error.value)
    assert "key 'prefix_tuning.task.beam' is called 'beam_size' now" in str(error.value)
