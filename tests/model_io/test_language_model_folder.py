"""A model folder is loaded whole, or refused: nothing in a loaded model is random."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig, MixtralConfig

from core.errors import InputError
from data.tokenizer_training import TokenizerConfig, save_tokenizer, train_tokenizer
from lightning_modules.prefix_tuning.key_values import cache_shape
from model_io.files import CONFIG, WEIGHTS
from model_io.language_model import load_language_model, load_skeleton, load_transformers_model
from model_io.reward_model import new_reward_model

LOST = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(params=[False, True], ids=["own output layer", "tied"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    save_tokenizer(train_tokenizer(["abc cab"], TokenizerConfig(vocab_size=300)), tmp_path)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=request.param,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    return tmp_path


def changed(folder: Path, name: str, value: torch.Tensor | None) -> None:
    kept = {key: tensor for key, tensor in load_file(folder / WEIGHTS).items() if key != name}
    save_file(kept if value is None else {**kept, name: value}, folder / WEIGHTS, metadata={"format": "pt"})


def test_a_whole_folder_is_loaded(folder: Path) -> None:
    model, _ = load_language_model(folder)
    saved = load_file(folder / WEIGHTS)
    assert all(torch.equal(model.state_dict()[name].cpu(), value) for name, value in saved.items())


def test_a_missing_weight_is_named(folder: Path) -> None:
    changed(folder, LOST, None)
    for load in (load_language_model, lambda path: new_reward_model(path, "{prompt}")):
        with pytest.raises(InputError, match=rf"{folder}: weights are missing \(1\): {LOST}\. Make it again"):
            load(folder)


def test_a_weight_of_another_shape_is_named(folder: Path) -> None:
    changed(folder, "model.norm.weight", torch.ones(7))
    with pytest.raises(
        InputError, match=rf"{folder}: model\.norm\.weight has the shape \(7,\), and its config\.json describes \(16,\)"
    ):
        load_language_model(folder)


def test_only_a_new_reward_model_has_a_new_head(folder: Path) -> None:
    new_reward_model(folder, "{prompt}")
    with pytest.raises(InputError, match=r"weights are missing \(1\): score\.weight"):
        load_transformers_model(AutoModelForSequenceClassification, folder, num_labels=1)


def test_the_code_of_a_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tmp_path / "ran"
    kinds = {
        "AutoConfig": "mine.Mine",
        "AutoModelForCausalLM": "mine.Mine",
        "AutoModelForSequenceClassification": "mine.Mine",
    }
    (tmp_path / CONFIG).write_text(json.dumps({"model_type": "mine", "auto_map": kinds}))
    (tmp_path / "mine.py").write_text(f"open({str(ran)!r}, 'w')\nclass Mine:\n    pass\n")
    monkeypatch.setattr("builtins.input", lambda _: "y")  # a line of prompts that says yes
    for load in (load_language_model, load_skeleton, lambda path: new_reward_model(path, "{prompt}")):
        with pytest.raises(InputError, match=rf"{tmp_path}: it has code of its own"):
            load(tmp_path)
    assert not ran.exists()


def test_a_configuration_that_describes_no_model_is_named(folder: Path) -> None:
    described = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**described, "hidden_size": "abc"}))
    for load in (load_language_model, load_skeleton):
        with pytest.raises(InputError, match=rf"(?s){folder}: cannot be loaded: .*hidden_size"):
            load(folder)


def test_a_token_without_an_embedding_is_named(folder: Path) -> None:
    _, tokenizer = load_language_model(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<{i}>" for i in range(300)]})
    tokenizer.save_pretrained(folder)
    load_language_model(folder)  # no text has it
    tokenizer.add_tokens(["@@"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match=r"a token '@@' of id \d+, and the model has 300 embeddings"):
        load_language_model(folder)


def test_a_skeleton_has_the_shapes_of_its_folder(tmp_path: Path) -> None:
    sizes = {
        "vocab_size": 60,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_local_experts": 2,
    }
    MixtralConfig(**sizes, num_attention_heads=4, num_key_value_heads=2).save_pretrained(tmp_path)
    assert cache_shape(load_skeleton(tmp_path)) == (3, 2, 8)
