"""Prefixes to and from the adapter folders of PEFT (0.21): `adapter_config.json` and `adapter_model.safetensors`.

PEFT keeps what its encoder gives under the one key `prompt_embeddings`: (L, layers * 2 * heads * head size), a layer's keys before its
values. That is the layout of our P, so nothing is rearranged. Its `token_dim` is heads * head size of the keys. For a grouped-query
model that is less than the model's width.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import PreTrainedModel

from core.errors import InputError
from lightning_modules.prefix_tuning.key_values import cache_shape
from model_io.files import load_weights, read_config, write_config
from model_io.prefix import adapter_of, check_base, read_prefix, save_prefix

ADAPTER_CONFIG, ADAPTER = "adapter_config.json", "adapter_model.safetensors"
PEFT_TYPES = {"prefix": "PREFIX_TUNING", "prompt_tuning": "PROMPT_TUNING"}


def export_prefix(folder: Path, base: PreTrainedModel, base_folder: Path, out: Path) -> None:
    """Writes a prefix as a PEFT adapter into the empty folder `out`.

    Raises:
        InputError: it is damaged, belongs to another base, is an infix (PEFT has none), or is of the kind "none".
    """
    config, table = read_prefix(folder)
    check_base(folder, config, base_folder)
    if config["kind"] not in PEFT_TYPES or config.get("position") == "infix":
        kind = "an infix" if config.get("position") == "infix" else f"of kind {config['kind']!r}"
        raise InputError(f"{folder}: it is {kind}: PEFT has prefixes and prompt embeddings before the input only.")
    adapter_of(config, table, base, folder)  # which checks the shape
    layers, heads, size = cache_shape(base)
    values: dict[str, Any] = {
        "peft_type": PEFT_TYPES[config["kind"]],
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base_folder),
        "inference_mode": True,
        "num_virtual_tokens": len(table),
        "num_transformer_submodules": 1,
        "num_layers": layers,
        "num_attention_heads": heads if config["kind"] == "prefix" else base.config.num_attention_heads,
        "token_dim": heads * size if config["kind"] == "prefix" else table.shape[1],
    }
    if config["kind"] == "prefix":
        values |= {"encoder_hidden_size": heads * size, "prefix_projection": False}
    write_config(out / ADAPTER_CONFIG, values)
    save_file({"prompt_embeddings": table.contiguous()}, out / ADAPTER, metadata={"format": "pt"})


def import_prefix(peft: Path, base: PreTrainedModel, base_folder: Path, out: Path, template: str) -> None:
    """Writes a PEFT adapter as a prefix for this base into the empty folder `out`. The adapter's file has no MLP of a trained encoder.

    Raises:
        InputError: it is no prefix or prompt tuning of a causal model, is damaged, or its shape is not this base's.
    """
    values = read_config(peft / ADAPTER_CONFIG, "a PEFT adapter (of `save_pretrained`)")
    kinds = {name: kind for kind, name in PEFT_TYPES.items()}
    kind = kinds.get(str(values.get("peft_type")))
    if kind is None or values.get("num_transformer_submodules", 1) == 2:
        raise InputError(
            f"{peft / ADAPTER_CONFIG}: peft_type {values.get('peft_type')!r}: expected {' or '.join(kinds)} of a causal model."
        )
    if (task := values.get("task_type")) not in ("CAUSAL_LM", None):
        raise InputError(
            f"{peft / ADAPTER_CONFIG}: task_type {task!r}: expected CAUSAL_LM; a trained head would be lost."
        )
    table = load_weights(peft / ADAPTER, ("prompt_embeddings",))["prompt_embeddings"].float()
    save_prefix(out, kind, adapter_of({"kind": kind}, table, base, peft), base_folder, template)
