"""A prefix as a folder: `prefix.safetensors` (P alone) and `prefix.json` (what it is, and which base it belongs to)."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from core.errors import InputError
from core.folders import file_hash
from core.format_1 import FORMAT, format_of, new_value
from data.templates import checked_template
from lightning_modules.prefix_tuning.base_model import input_embeddings
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.key_values import cache_shape
from lightning_modules.prefix_tuning.prefix import Adapter, NoPrefix, Prefix, PromptEmbedding
from model_io.files import check_same, load_weights, read_config, weight_files, write_config

PREFIX, PREFIX_CONFIG = "prefix.safetensors", "prefix.json"
ADAPTERS: dict[str, type[Prefix] | type[PromptEmbedding]] = {"prefix": Prefix, "prompt_tuning": PromptEmbedding}
POSITIONS = ("prefix", "infix")
KINDS = ("none", *ADAPTERS)


class SavedPrefix(NamedTuple):
    """A prefix with what is needed to use it."""

    adapter: Adapter
    template: str
    kind: str


def save_prefix(folder: Path, kind: str, adapter: Adapter, base: Path, template: str) -> None:
    """Writes P alone, the hash of its file, and which base it belongs to (by the hash of its weights)."""
    position = "infix" if adapter.infix else "prefix"
    write_prefix_files(
        folder, {"P": adapter.prompt_embeddings()}, {"kind": kind, "position": position, "template": template}, base
    )


def write_prefix_files(folder: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], base: Path) -> None:
    """Writes the tensors, and `prefix.json`: what `about` says of them, the base and the hashes.

    Raises:
        InputError: the base's folder has no weights.
    """
    base_hash = file_hash(*weight_files(base))
    save_file({name: p.detach().cpu().contiguous() for name, p in tensors.items()}, folder / PREFIX)
    values = {"format": FORMAT, **about, "base": str(base), "base_hash": base_hash, "hash": file_hash(folder / PREFIX)}
    write_config(folder / PREFIX_CONFIG, values)


def read_prefix(folder: Path) -> tuple[dict[str, Any], Tensor]:
    """`prefix.json` and P. Raises InputError when a file is missing, or differs from what `save_prefix` wrote."""
    config, tensors = read_prefix_files(folder, KINDS, ("P",), ("template",))
    try:
        checked_template(config["template"], {"source"})
    except ValueError as error:
        raise InputError(f"{folder / PREFIX_CONFIG}: template: {error}.") from None
    if (position := config.get("position", "prefix")) not in POSITIONS:
        raise InputError(f"{folder / PREFIX_CONFIG}: position {position!r}: expected {' or '.join(POSITIONS)}.")
    return config, tensors["P"]


def read_prefix_files(
    folder: Path, kinds: Collection[str], names: Collection[str], keys: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """`prefix.json`, of one of the `kinds` and with `keys` beside those of `write_prefix_files`; and the tensors of these `names`.

    Raises:
        InputError: a file is missing, or differs from what `write_prefix_files` wrote.
    """
    config = read_config(folder / PREFIX_CONFIG, "a prefix, e.g. artifacts/prefix_tuning/prefix")
    if format_of(config, str(folder / PREFIX_CONFIG)) < FORMAT:
        kind = config.get("kind")
        config["kind"] = new_value("prefix_tuning.variants.*.kind", kind) or kind
    if (kind := config.get("kind")) not in kinds:
        raise InputError(f"{folder / PREFIX_CONFIG}: kind {kind!r}: expected {', '.join(kinds)}.")
    if missing := [key for key in (*keys, "base", "base_hash", "hash") if not isinstance(config.get(key), str)]:
        raise InputError(f"{folder / PREFIX_CONFIG}: no {', '.join(missing)} in it. Make the prefix again.")
    path = folder / PREFIX
    if path.is_file() and (actual := file_hash(path)) != config["hash"]:
        raise InputError(
            f"{path}: truncated or altered: its content is {actual[:8]}, {PREFIX_CONFIG} says {config['hash'][:8]}. "
            "Copy both files again, or make the prefix again."
        )
    return config, load_weights(path, names)


def load_prefix(folder: Path, base: PreTrainedModel, base_folder: Path) -> SavedPrefix:
    """Raises InputError when a file is missing or damaged, or the prefix was trained on another base."""
    config, table = read_prefix(folder)
    check_base(folder, config, base_folder)
    return SavedPrefix(
        adapter_of(config, table, base, folder).to(base.device).eval(), config["template"], str(config["kind"])
    )


def check_base(folder: Path, config: dict[str, Any], base_folder: Path) -> None:
    """Raises InputError when the base's weights are not those that the prefix was trained on."""
    actual = file_hash(*weight_files(base_folder))
    if actual != config["base_hash"]:
        raise InputError(
            f"{folder}: this prefix was trained on {config['base']} (weights {config['base_hash'][:8]}), but {base_folder} has "
            f"weights {actual[:8]}. A prefix works with its own base only: give that one (--model), or train the prefix again."
        )


def adapter_of(config: dict[str, Any], table: Tensor, base: PreTrainedModel, where: Path) -> Adapter:
    """The adapter that `config` describes, with the table P. Raises InputError when P does not fit the base, is empty or not finite."""
    kind = config["kind"]
    if kind == "none":
        return NoPrefix()
    layers, heads, size = cache_shape(base)
    width = layers * 2 * heads * size if kind == "prefix" else input_embeddings(base).shape[1]
    if table.dim() != 2 or table.shape[1] != width:
        raise InputError(f"{where}: P is {tuple(table.shape)}, and this base needs (length, {width}).")
    if not len(table) or not table.isfinite().all():
        problem = "values that are not finite" if len(table) else "no positions"
        raise InputError(f"{where}: P has {problem}. Copy the file again, or train the prefix again.")
    prefix_config = PrefixConfig(
        num_virtual_tokens=len(table), prefix_projection=False, position=config.get("position", "prefix")
    )
    return ADAPTERS[kind](base, prefix_config, table)


def start_from_prefix(
    kind: str, base: PreTrainedModel, base_folder: Path, config: PrefixConfig, template: str, folder: Path
) -> Adapter:
    """A new adapter whose P is at first that of the one in `folder`. An MLP is new, and fitted to give this P: a folder has none.

    Raises:
        InputError: there is none, or it is another one: of another base, kind, position, template or number of virtual tokens.
    """
    saved, table = read_prefix(folder)
    check_base(folder, saved, base_folder)
    there = {"kind": saved["kind"], "position": saved.get("position", "prefix"), "template": saved["template"]}
    here = {"kind": kind, "position": config.position, "template": template}
    check_same(
        folder, {**there, "num_virtual_tokens": len(table)}, {**here, "num_virtual_tokens": config.num_virtual_tokens}
    )
    adapter_of(saved, table, base, folder)  # it checks P
    return ADAPTERS[kind](base, config, table)
