"""Prefixes of encoder-decoders as folders: what is loaded is what was saved, anything else is refused by name; the snippet of the docs."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedModel, T5Config, T5ForConditionalGeneration

from core.errors import InputError
from core.folders import file_hash
from data.batching import padded
from data.tokenizer import BEGIN, END, encode
from data.tokenizer_training import TokenizerConfig, save_tokenizer, train_tokenizer
from lightning_modules.encoder_decoder_prefix import pretrained
from lightning_modules.encoder_decoder_prefix.translator import (
    PARTS,
    EncoderDecoderPrefix,
    PrefixedTransformer,
    transformer_shapes,
)
from lightning_modules.prefix_tuning.projection import PrefixConfig
from lightning_modules.translators.transformer.model import Transformer, TransformerConfig
from model_io.encoder_decoder_prefix import load_encoder_decoder_prefix, save_encoder_decoder_prefix
from model_io.files import WEIGHTS
from model_io.prefix import read_prefix
from model_io.translator import save_translator

SETTINGS = PrefixConfig(num_virtual_tokens=3, projection_input_size=6, encoder_hidden_size=10, dropout=0.2)
SOURCE, TARGET = padded([[8, 9, 10, END], [12, END]]), padded([[BEGIN, 9, 10], [BEGIN, 11]])
TEXTS = ["a dog runs", "a cat sleeps here", "the dog sleeps"]
DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "prefix-tuning.md"


def translator(folder: Path, seed: int = 0, heads: int = 4) -> Transformer:
    """A small Transformer, and its folder."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(vocab_size=300))
    save_tokenizer(tokenizer, folder.parent / "tokenizer")
    settings = TransformerConfig(num_layers=2, hidden_size=16, ff_size=24, num_heads=heads)
    model = Transformer(settings, tokenizer.get_vocab_size()).eval()
    folder.mkdir(parents=True)
    save_translator(folder, "transformer", model, settings, folder.parent / "tokenizer")
    return model


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Transformer, Path, Path]:
    """A Transformer, its folder, the folder of a prefix for it."""
    base, prefix = translator(tmp_path / "base"), tmp_path / "new" / "prefix"
    save_encoder_decoder_prefix(prefix, EncoderDecoderPrefix(transformer_shapes(base), SETTINGS), tmp_path / "base")
    return base, tmp_path / "base", prefix


def test_a_prefix_of_the_transformer_is_loaded_as_it_was(tmp_path: Path) -> None:
    base = translator(tmp_path / "base")
    prefix = EncoderDecoderPrefix(transformer_shapes(base), SETTINGS)
    save_encoder_decoder_prefix(tmp_path / "prefix", prefix, tmp_path / "base")
    loaded = load_encoder_decoder_prefix(tmp_path / "prefix", base, tmp_path / "base")
    with torch.no_grad():
        expected, logits = (PrefixedTransformer(base, p.eval())(SOURCE, TARGET) for p in (prefix, loaded))
    assert torch.equal(logits, expected)
    assert not torch.allclose(logits, base(SOURCE, TARGET), atol=1e-3)
    assert {part: tuple(p.shape) for part, p in loaded.prompt_embeddings().items()} == dict.fromkeys(
        PARTS, (3, 2 * 2 * 16)
    )
    assert (tmp_path / "prefix" / "prefix.safetensors").stat().st_size < 4 * 3 * 3 * 64 + 300  # no MLP
    config = json.loads((tmp_path / "prefix" / "prefix.json").read_text())
    assert config == {
        "format": 2,
        "kind": "encoder-decoder",
        "base": str(tmp_path / "base"),
        "base_hash": file_hash(tmp_path / "base" / WEIGHTS),
        "hash": file_hash(tmp_path / "prefix" / "prefix.safetensors"),
    }


SIZES: dict[str, Any] = {"vocab_size": 20, "hidden_size": 16, "pad_token_id": 0, "eos_token_id": END}
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "bart": lambda: BartForConditionalGeneration(
        BartConfig(
            **SIZES, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=2, encoder_ffn_dim=24,
            decoder_ffn_dim=24, max_position_embeddings=32, bos_token_id=BEGIN, decoder_start_token_id=BEGIN, init_std=0.2,
        )
    ),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(**SIZES, d_kv=6, d_ff=24, num_layers=2, num_heads=3, decoder_start_token_id=BEGIN)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_prefix_of_transformers_is_loaded_as_it_was(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = MODELS[name]().eval()
    base.save_pretrained(tmp_path / "base")
    prefix = EncoderDecoderPrefix(pretrained.shapes(base), SETTINGS).eval()
    save_encoder_decoder_prefix(tmp_path / "prefix", prefix, tmp_path / "base")
    again = type(base).from_pretrained(tmp_path / "base").eval()
    loaded = load_encoder_decoder_prefix(tmp_path / "prefix", again, tmp_path / "base")

    @torch.no_grad()
    def logits(model: PreTrainedModel) -> torch.Tensor:
        scores: torch.Tensor = model(input_ids=SOURCE, decoder_input_ids=TARGET, use_cache=False).logits
        return scores

    plain = logits(base)
    with pretrained.prefix_attention(base, prefix):
        saved = logits(base)
    with pretrained.prefix_attention(again, loaded):
        assert torch.equal(logits(again), saved)
    assert not torch.allclose(saved, plain, atol=1e-3)


def test_another_base_is_refused(saved: tuple[Transformer, Path, Path], tmp_path: Path) -> None:
    base, folder, prefix = saved
    other = translator(tmp_path / "other" / "base", seed=1)
    with pytest.raises(
        InputError, match=r"this prefix was trained on .*base \(weights .* but .*other/base has weights"
    ):
        load_encoder_decoder_prefix(prefix, other, tmp_path / "other" / "base")
    with pytest.raises(InputError, match=r"nowhere: no model\.safetensors in it"):
        load_encoder_decoder_prefix(prefix, base, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"nowhere: no model\.safetensors in it"):
        save_encoder_decoder_prefix(prefix, EncoderDecoderPrefix(transformer_shapes(base), SETTINGS), Path("nowhere"))
    load_encoder_decoder_prefix(prefix, base, folder)  # and that changed nothing


def test_damaged_files_are_named(saved: tuple[Transformer, Path, Path]) -> None:
    base, folder, prefix = saved
    file, config = prefix / "prefix.safetensors", prefix / "prefix.json"
    whole, values = file.read_bytes(), json.loads(config.read_text())

    def refused(reason: str) -> None:
        with pytest.raises(InputError, match=reason):
            load_encoder_decoder_prefix(prefix, base, folder)

    file.write_bytes(whole[:-8])
    refused(r"prefix\.safetensors: truncated or altered")
    config.write_text(json.dumps({**values, "hash": file_hash(file)}))
    refused(r"prefix\.safetensors: missing or damaged")
    file.unlink()
    refused(r"prefix\.safetensors: missing or damaged")
    config.write_text(json.dumps({k: v for k, v in values.items() if k != "base_hash"}))
    refused(r"prefix\.json: no base_hash in it")
    config.write_text(json.dumps({**values, "kind": "prefix"}))
    refused(r"prefix\.json: kind 'prefix': expected encoder-decoder")
    config.write_text("{")
    refused(r"prefix\.json: damaged")
    config.unlink()
    refused(r"prefix: no prefix\.json in it")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cross": None}, "expected encoder, cross, decoder in it, found decoder, encoder"),
        ({"more": (3, 64)}, "expected encoder, cross, decoder in it, found .*more"),
        ({"decoder": (3, 48)}, r"decoder is \(3, 48\), and this base needs \(length, 64\)"),
        ({"decoder": (4, 64)}, r"decoder is \(4, 64\), and this base needs .* the same length"),
        ({"encoder": (192,)}, r"encoder is \(192,\)"),
        (dict.fromkeys(PARTS, (0, 64)), r"encoder is \(0, 64\)"),
    ],
)
def test_wrong_parts_and_shapes_are_named(
    saved: tuple[Transformer, Path, Path], change: dict[str, tuple[int, ...] | None], reason: str
) -> None:
    base, folder, prefix = saved
    file, config = prefix / "prefix.safetensors", prefix / "prefix.json"
    parts = load_file(file)
    for name, shape in change.items():
        parts.pop(name, None)
        if shape:
            parts[name] = torch.zeros(shape)
    save_file(parts, file)
    config.write_text(json.dumps({**json.loads(config.read_text()), "hash": file_hash(file)}))
    with pytest.raises(InputError, match=rf"prefix\.safetensors: {reason}"):
        load_encoder_decoder_prefix(prefix, base, folder)


def test_commands_for_causal_models_refuse_it(saved: tuple[Transformer, Path, Path]) -> None:
    with pytest.raises(InputError, match=r"prefix\.json: kind 'encoder-decoder': expected none, prefix, prompt_tuning"):
        read_prefix(saved[2])


def test_the_snippet_of_the_docs_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    base = translator(Path("artifacts/translators/transformer"))
    tokens = encode(train_tokenizer(TEXTS, TokenizerConfig(vocab_size=300)), TEXTS)
    rows = {"source": tokens, "target": tokens[::-1]}
    features = datasets.Features({side: datasets.List(datasets.Value("int32")) for side in rows})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk("artifacts/encoded/validation")
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, Any] = {}
    exec(compile(snippet, str(DOCS), "exec"), found)
    assert capsys.readouterr().out.splitlines()[-1].startswith("['")
    trained = found["training"].model.prompt_embeddings()
    assert all(torch.equal(p.cpu(), trained[part].cpu()) for part, p in found["prefix"].prompt_embeddings().items())
    loaded = load_encoder_decoder_prefix(Path("my_prefix"), base, Path("artifacts/translators/transformer"))
    assert loaded.length == 5
