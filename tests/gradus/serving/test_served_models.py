"""What is served does as the commands do, whatever the base's folder says, and names the row that it cannot read."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from core.errors import InputError
from data.tokenizer import BEGIN, END, PAD
from data.tokenizer_training import TokenizerConfig, save_tokenizer, train_tokenizer
from gradus.inference.generate import ONLY, ContinuedLines
from gradus.inference.input_lines import Line
from gradus.serving.served_prefix import ServedPrefix
from gradus.serving.served_reward_model import ServedRewardModel
from lightning_modules.language_model.prompts import prompts
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.prefix import NoPrefix, build_adapter
from model_io.files import WEIGHTS
from model_io.language_model import load_language_model
from model_io.prefix import save_prefix
from model_io.reward_model import load_reward_model, new_reward_model, save_reward_model

SIZES: dict[str, Any] = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
SPECIAL: dict[str, Any] = {"pad_token_id": PAD, "bos_token_id": BEGIN, "eos_token_id": END}
LLAMA: dict[str, Any] = {
    **SIZES, **SPECIAL, "intermediate_size": 32, "num_key_value_heads": 2, "max_position_embeddings": 64
}  # fmt: skip
ROWS = ["the mill serves food", "a pub near the river", "food food"]


def base(folder: Path, config: PretrainedConfig, end: str | None = "</s>") -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for weights in model.parameters():
        weights.data.mul_(8) if weights.dim() > 1 else None
    model.save_pretrained(folder)
    learned = train_tokenizer(["the mill serves food near the river pub a"], TokenizerConfig(vocab_size=300))
    PreTrainedTokenizerFast(tokenizer_object=learned, pad_token="<pad>", eos_token=end).save_pretrained(folder)
    return folder


def prefix(model: Path, template: str = "say {source}:") -> Path:
    folder = model.with_name(f"{model.name} prefix")
    folder.mkdir()
    loaded, _ = load_language_model(model)
    made = build_adapter("prefix", loaded, PrefixConfig(num_virtual_tokens=4, prefix_projection=False), [5, 6, 7, 8])
    save_prefix(folder, "prefix", made, model, template)
    return folder


def served(model: Path, folder: Path) -> ServedPrefix:
    prefix_model = ServedPrefix()
    prefix_model.load_context(SimpleNamespace(artifacts={"prefix": str(folder)}, model_config={"base": str(model)}))
    return prefix_model


def generated(model: Path, folder: Path, rows: list[str], beam: int) -> list[str]:
    lines = [Line(number, row, None) for number, row in enumerate(rows, start=1)]
    return list(ContinuedLines(model, {ONLY: folder}, {"max_new_tokens": 12, "beam_size": beam}, print)([lines]))


@pytest.mark.parametrize(
    ("config", "generation"),
    [
        (LlamaConfig(**LLAMA), {"repetition_penalty": 1.5}),
        (LlamaConfig(**LLAMA, use_cache=False), {}),
        (LlamaConfig(**LLAMA), {"use_cache": False}),
        (FalconConfig(**SIZES, **SPECIAL, multi_query=True), {}),  # one head of keys, which its configuration does not name
    ],
    ids=["penalty", "no cache", "generation without cache", "multi-query"],
)  # fmt: skip
@pytest.mark.parametrize("beam", [1, 3])
def test_a_served_prefix_writes_what_gradus_generate_writes(
    config: PretrainedConfig, generation: dict[str, Any], beam: int, tmp_path: Path
) -> None:
    model = base(tmp_path / "base", config)
    file = model / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | generation))
    folder = prefix(model)
    texts = served(model, folder).predict(
        None, pd.DataFrame({"source": ROWS}), {"max_new_tokens": 12, "beam_size": beam}
    )
    assert texts == generated(model, folder, ROWS, beam)
    assert len(set(texts)) > 1


@pytest.mark.parametrize("beam", [1, 3])
def test_an_end_of_turn_of_the_generation_config_ends_what_is_served_as_what_is_generated(
    beam: int, tmp_path: Path
) -> None:
    model = base(tmp_path / "base", LlamaConfig(**LLAMA))
    folder = prefix(model)
    freely = served(model, folder)
    assert freely.other_ends == [END]
    rows, options = pd.DataFrame({"source": ROWS}), {"max_new_tokens": 12, "beam_size": beam}
    whole = freely.predict(None, rows, options)
    file = model / "generation_config.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    turn_ends = list(range(200, 300))
    file.write_text(json.dumps({**values, "eos_token_id": [END, *turn_ends]}), encoding="utf-8")
    written = served(model, folder).predict(None, rows, options)
    assert written == generated(model, folder, ROWS, beam)
    assert written != whole


def test_a_base_in_parts_counts_with_every_part(tmp_path: Path) -> None:
    model = base(tmp_path / "base", LlamaConfig(**LLAMA))
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(model, max_shard_size="4kB")
    (model / WEIGHTS).unlink()
    parts = sorted(model.glob("*.safetensors"))
    assert len(parts) > 2
    folder = prefix(model)
    frame = pd.DataFrame({"source": ROWS})
    assert served(model, folder).predict(None, frame, {"max_new_tokens": 12}) == generated(model, folder, ROWS, beam=1)
    last = load_file(parts[-1])
    next(iter(last.values())).view(-1)[0] += 1
    save_file(last, parts[-1], {"format": "pt"})
    with pytest.raises(InputError, match="this prefix was trained on"):
        generated(model, folder, ROWS, beam=1)
    with pytest.raises(ValueError, match="not the base of this prefix"):
        served(model, folder)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_row_that_is_no_text_is_named(missing: object, tmp_path: Path) -> None:
    model = base(tmp_path / "base", LlamaConfig(**LLAMA))
    with pytest.raises(ValueError, match=r"row 2: source is (None|nan): a text expected"):
        served(model, prefix(model)).predict(
            None, pd.DataFrame({"source": ["a", missing]}, dtype=object), {"max_new_tokens": 6}
        )


def test_a_source_that_spells_a_special_token_is_text(tmp_path: Path) -> None:
    model = base(tmp_path / "base", LlamaConfig(**LLAMA))
    _, tokenizer = load_language_model(model)
    for ordinary in [*ROWS, 'é "x"\n <ok> a < /s>', ""]:
        assert prompts(tokenizer, "say {source}:", [ordinary]) == [tokenizer(f"say {ordinary}:")["input_ids"]]
    (spelt,) = prompts(tokenizer, "say {source}:", ["a </s> b"])
    assert END not in spelt
    assert tokenizer.decode(spelt) == tokenizer.decode(tokenizer("say a ")["input_ids"]) + "</s> b:"
    (meant,) = prompts(tokenizer, "say {source}</s>", ["a"])
    assert meant == tokenizer("say a</s>")["input_ids"]
    assert meant[-1] == END
    for number, template in enumerate(["say {source}:", "say {source}</s>"]):
        folder = prefix(model, template).rename(tmp_path / str(number))
        ids = served(model, folder)._prompts(["a", "a </s> b"], 5)
        assert ids == prompts(tokenizer, template, ["a", "a </s> b"])


def test_a_base_without_an_end_token_is_an_error(tmp_path: Path) -> None:
    model = base(tmp_path / "base", LlamaConfig(**LLAMA), end=None)
    with pytest.raises(InputError, match=rf"{model}: its tokenizer has no end token"):
        ContinuedLines(model, {}, {}, print)
    with pytest.raises(InputError, match=rf"{model}: its tokenizer has no end token"):
        new_reward_model(model, "{prompt}")


def test_a_served_reward_model_names_rows_that_it_cannot_read(tmp_path: Path) -> None:
    body, folder = tmp_path / "body", tmp_path / "reward"
    save_tokenizer(train_tokenizer(["abc cab"], TokenizerConfig(vocab_size=300)), body)
    AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA)).save_pretrained(body)
    model, tokenizer, frame = new_reward_model(body, "{prompt} ({reference})")
    save_reward_model(folder, model, tokenizer, frame, NoPrefix(), bias=0.25, temperature=None)
    reward_model = ServedRewardModel()
    reward_model.load_context(SimpleNamespace(artifacts={"model": str(folder)}))
    good = {"prompt": "abc", "reference": "cab", "response": "a"}

    def rewards(*rows: dict[str, Any]) -> list[float]:
        return reward_model.predict(None, pd.DataFrame(rows, dtype=object))

    ours = load_reward_model(folder)

    def refused_at(letters: int) -> bool:
        try:
            ours.rewards([{**good, "responses": ["q" * letters]}])
        except InputError:
            return True
        return False

    longest = next(n for n in range(64) if refused_at(n + 1))
    assert len(rewards(good, {**good, "response": "q" * longest})) == 2
    with pytest.raises(ValueError, match="row 2: prompt and response have 65 tokens; this model reads at most 64"):
        rewards(good, {**good, "response": "q" * (longest + 1)})
    for column in good:
        for value in (None, float("nan"), *[""] * (column == "reference")):
            with pytest.raises(ValueError, match=rf"row 2: {column} is .*: a text expected"):
                rewards(good, {**good, column: value})
