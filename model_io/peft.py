"""Prefixes to and from the adapter folders of PEFT (0.21): `adapter_config.json` and `adapter_model.safetensors`.

PEFT keeps, under the one key `prompt_embeddings`, what its encoder gives, (length, layers * 2 * heads * head size) with a layer's keys
before its values: the layout of our P, so nothing is rearranged. Its `token_dim` is heads * head size of the keys, which for a
grouped-query model is less than the model's width. Embedding prompts are PEFT's prompt tuning.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import PreTrainedModel

from core.errors import InputError
from lightning_modules.prefix_tuning.prefix import cache_shape
from model_io.files import read_config, weights, write_config
from model_io.prefix import adapter, check_base, read_prefix, save_prefix

CONFIG, ADAPTER = "adapter_config.json", "adapter_model.safetensors"
TYPES = {"prefix": "PREFIX_TUNING", "prompt_tuning": "PROMPT_TUNING"}


def export_prefix(folder: Path, base: PreTrainedModel, base_folder: Path, out: Path) -> None:
    """Writes a prefix as a PEFT adapter into the empty folder `out`.

    Raises:
        InputError: it is damaged, belongs to another base, is an infix (PEFT has none), or is the variant "none".
    """
    config, flat = read_prefix(folder)
    check_base(folder, config, base_folder)
    if config["kind"] not in TYPES or config.get("position") == "infix":
        found = "an infix" if config.get("position") == "infix" else f"of kind {config['kind']!r}"
        raise InputError(f"{folder}: it is {found}: PEFT has prefixes and prompt embeddings before the input only.")
    adapter(config, flat, base, folder)  # its shape is the base's
    layers, heads, size = cache_shape(base)
    values: dict[str, Any] = {
        "peft_type": TYPES[config["kind"]],
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base_folder),
        "inference_mode": True,
        "num_virtual_tokens": len(flat),
        "num_transformer_submodules": 1,
        "num_layers": layers,
        "num_attention_heads": heads if config["kind"] == "prefix" else base.config.num_attention_heads,
        "token_dim": heads * size if config["kind"] == "prefix" else flat.shape[1],
    }
    if config["kind"] == "prefix":
        values |= {"encoder_hidden_size": heads * size, "prefix_projection": False}
    write_config(out / CONFIG, values)
    save_file({"prompt_embeddings": flat.contiguous()}, out / ADAPTER, metadata={"format": "pt"})


def import_prefix(peft: Path, base: PreTrainedModel, base_folder: Path, out: Path, template: str) -> None:
    """Writes a PEFT adapter as a prefix for this base into the empty folder `out`. A trained encoder's MLP is not in the adapter's file.

    Raises:
        InputError: it is no prefix or prompt tuning of a causal model, is damaged, or has not this base's shape.
    """
    values = read_config(peft / CONFIG, "a PEFT adapter (of `save_pretrained`)")
    kinds = {name: kind for kind, name in TYPES.items()}
    kind = kinds.get(str(values.get("peft_type")))
    if kind is None or values.get("num_transformer_submodules", 1) == 2:
        raise InputError(
            f"{peft / CONFIG}: peft_type {values.get('peft_type')!r}: expected {' or '.join(kinds)} of a causal model."
        )
    if (task := values.get("task_type")) not in ("CAUSAL_LM", None):
        raise InputError(f"{peft / CONFIG}: task_type {task!r}: expected CAUSAL_LM; a trained head would be lost.")
    flat = weights(peft / ADAPTER, ("prompt_embeddings",))["prompt_embeddings"].float()
    made = adapter({"kind": kind}, flat, base, peft)
    save_prefix(out, kind, made, base_folder, template)
