"""A prefix as a folder: P, and which base it belongs to."""

from pathlib import Path
from typing import NamedTuple

from safetensors.torch import save_file
from transformers import PreTrainedModel

from data.errors import InputError
from data.folders import file_hash
from lightning_modules.prefix_tuning import Adapter, EmbeddingPrompt, NoPrefix, Prefix, PrefixSettings
from stages.model_files import WEIGHTS, read_config, weights, write_config

PREFIX, PREFIX_CONFIG = "prefix.safetensors", "prefix.json"


class SavedPrefix(NamedTuple):
    """A prefix with what is needed to use it."""

    adapter: Adapter
    template: str
    kind: str


def save_prefix(folder: Path, kind: str, adapter: Adapter, base: Path, template: str) -> None:
    """Writes P alone, and which base it belongs to (by the hash of its weights)."""
    save_file({"P": adapter.flat().detach().contiguous()}, folder / PREFIX)
    write_config(
        folder / PREFIX_CONFIG,
        {"kind": kind, "template": template, "base": str(base), "base_hash": file_hash(base / WEIGHTS)},
    )


def load_prefix(folder: Path, base: PreTrainedModel, base_folder: Path) -> SavedPrefix:
    """Raises InputError when a file is missing or damaged, or the prefix was trained on another base."""
    config = read_config(folder / PREFIX_CONFIG, "a prefix, e.g. artifacts/prefix_tuning/prefix")
    actual = file_hash(base_folder / WEIGHTS)
    if actual != config["base_hash"]:
        raise InputError(
            f"{folder}: this prefix was trained on {config['base']} (weights {config['base_hash'][:8]}), but {base_folder} has "
            f"weights {actual[:8]}. A prefix works with its own base only: give that one with --model, or train the prefix again."
        )
    flat = weights(folder / PREFIX)["P"]
    settings = PrefixSettings(length=max(1, len(flat)), reparametrisation=False)
    adapters = {"prefix": Prefix, "embedding": EmbeddingPrompt}
    adapter = adapters[config["kind"]](base, settings, flat) if config["kind"] in adapters else NoPrefix()
    return SavedPrefix(adapter.to(base.device).eval(), config["template"], config["kind"])
