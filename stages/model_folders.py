"""Models between stages: a folder with `model.safetensors`, `config.json` and the tokenizer. Nothing in it is code."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from data.errors import InputError
from data.folders import file_hash
from data.settings import validated
from data.tokenizer import load_tokenizer
from lightning_modules.prefix_tuning import Adapter, EmbeddingPrompt, NoPrefix, Prefix, PrefixSettings
from lightning_modules.translator import Translator, TranslatorSettings, architecture

DEVICE = torch.device(
    "cuda" if torch.cuda.is_available() else "cpu"
)  # where models are used; training decides by itself

transformers_logging.disable_progress_bar()  # of loading and saving, which take a moment here

WEIGHTS, CONFIG, PREFIX, PREFIX_CONFIG = "model.safetensors", "config.json", "prefix.safetensors", "prefix.json"


def save_translator(folder: Path, name: str, model: Translator, settings: TranslatorSettings, tokenizer: Path) -> None:
    """Writes a translator of the architecture `name` with its tokenizer."""
    copy_tokenizer(tokenizer, folder)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    vocabulary = load_tokenizer(tokenizer).get_vocab_size()
    _write(
        folder / CONFIG, {"architecture": name, "vocabulary": vocabulary, "settings": settings.model_dump(mode="json")}
    )


def load_translator(folder: Path) -> tuple[Translator, Tokenizer, str]:
    """A translator ready to decode, its tokenizer and its architecture's name.

    Raises:
        InputError: a file is missing or damaged, or the weights are not those of the architecture in config.json.
    """
    config = _read(folder / CONFIG, f"a translator, e.g. artifacts/translators/{folder.name or 'transformer'}")
    if "architecture" not in config:
        raise InputError(f"{folder}: no translator: its {CONFIG} names no architecture of Gradus.")
    found = architecture(config["architecture"], str(folder / CONFIG))
    settings = validated(found.Settings, config["settings"], str(folder / CONFIG))
    model = found(settings, config["vocabulary"])
    try:
        model.load_state_dict(_weights(folder / WEIGHTS))
    except RuntimeError as error:
        raise InputError(f"{folder / WEIGHTS}: not the weights that {CONFIG} describes: {error}") from None
    return model.to(DEVICE).eval(), load_tokenizer(folder), config["architecture"]


def load_causal_model(folder: Path | str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A language model (in float32 on a CPU) and its tokenizer, from a folder or a hub id."""
    return _from_pretrained(AutoModelForCausalLM, folder)


def load_reward_model(folder: Path) -> tuple[PreTrainedModel, Tokenizer, float]:
    """A reward model, its tokenizer, and the bias that makes the demonstrations' mean reward 0."""
    bias = _read(folder / "reward.json", "a reward model, e.g. artifacts/reward_model")["bias"]
    model, _ = _from_pretrained(AutoModelForSequenceClassification, folder)
    return model, load_tokenizer(folder), bias


class SavedPrefix(NamedTuple):
    """A prefix with what is needed to use it."""

    adapter: Adapter
    template: str
    kind: str


def save_prefix(folder: Path, kind: str, adapter: Adapter, base: Path, template: str) -> None:
    """Writes P alone, and which base it belongs to (by the hash of its weights)."""
    save_file({"P": adapter.flat().detach().contiguous()}, folder / PREFIX)
    _write(
        folder / PREFIX_CONFIG,
        {"kind": kind, "template": template, "base": str(base), "base_hash": file_hash(base / WEIGHTS)},
    )


def load_prefix(folder: Path, base: PreTrainedModel, base_folder: Path) -> SavedPrefix:
    """Raises InputError when a file is missing or damaged, or the prefix was trained on another base."""
    config = _read(folder / PREFIX_CONFIG, "a prefix, e.g. artifacts/prefix_tuning/prefix")
    actual = file_hash(base_folder / WEIGHTS)
    if actual != config["base_hash"]:
        raise InputError(
            f"{folder}: this prefix was trained on {config['base']} (weights {config['base_hash'][:8]}), but {base_folder} has "
            f"weights {actual[:8]}. A prefix works with its own base only: give that one with --model, or train the prefix again."
        )
    flat = _weights(folder / PREFIX)["P"]
    settings = PrefixSettings(length=max(1, len(flat)), reparametrisation=False)
    adapters = {"prefix": Prefix, "embedding": EmbeddingPrompt}
    adapter = adapters[config["kind"]](base, settings, flat) if config["kind"] in adapters else NoPrefix()
    return SavedPrefix(adapter.eval(), config["template"], config["kind"])


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Puts the tokenizer's files into a model's folder."""
    for file in source.glob("tokenizer*.json"):
        shutil.copyfile(file, folder / file.name)


def _from_pretrained(kind: Any, folder: Path | str) -> tuple[Any, Any]:
    if isinstance(folder, Path) and not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: no {CONFIG} in it: not a model folder. Run the stage that makes it: dvc repro.")
    try:
        return kind.from_pretrained(folder, dtype=torch.float32).to(DEVICE).eval(), AutoTokenizer.from_pretrained(
            folder
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder}: cannot be loaded: {error}") from None


def _weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: missing or damaged ({error}). Make it again: dvc repro.") from None


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return values
    except FileNotFoundError:
        raise InputError(f"{path.parent}: no {path.name} in it. Give the folder of {what}.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: damaged ({error}).") from None


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
