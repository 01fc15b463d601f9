"""A prefix's table P as the keys and values of a base model's layers: (L, layers * 2 * key/value heads * head size)."""

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from core.errors import InputError
from lightning_modules.shared_prompt.reading import ordinary_evaluation


def cache_shape(base: PreTrainedModel) -> tuple[int, int, int]:
    """Layers, key/value heads and their size, from what the base itself keeps of one token.

    Raises:
        InputError: the base keeps no keys and values, or others from layer to layer.
    """
    with ordinary_evaluation(base):
        past = base.base_model(torch.tensor([[1]], device=base.device), use_cache=True).get("past_key_values")
    layers = [(getattr(x, "keys", None), getattr(x, "values", None)) for x in getattr(past, "layers", [])]
    shapes = {(x.shape[1], x.shape[3]) for layer in layers for x in layer if x is not None}
    if len(shapes) != 1 or any(x is None for layer in layers for x in layer):
        raise InputError(
            f"{base.config.model_type}: it keeps no keys and values of one shape at all layers. Choose another base."
        )
    (shape,) = shapes
    return (len(layers), *shape)


def prefix_cache(table: Tensor, shape: tuple[int, int, int], batch: int) -> DynamicCache:
    """P as the key/value cache of `batch` rows, as if its virtual tokens had been read before."""
    return DynamicCache(
        ddp_cache_data=[(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in key_values(table, shape)]
    )


def key_values(table: Tensor, shape: tuple[int, int, int]) -> list[tuple[Tensor, Tensor]]:
    """P as keys and values of each layer, (heads, L, head size)."""
    layers, heads, size = shape
    both = table.view(len(table), layers, 2, heads, size).permute(1, 2, 3, 0, 4)
    return [(layer[0], layer[1]) for layer in both]


def word_key_values(base: PreTrainedModel, words: Tensor) -> Tensor:
    """The keys and values of words at every layer, in the layout of P (L, layers * 2 * heads * head size).

    `words` are token ids (L,) or vectors (L, d) of the embedding layer.
    """
    text = {"inputs_embeds" if words.is_floating_point() else "input_ids": words[None].to(base.device)}
    with ordinary_evaluation(base):
        layers = base.base_model(**text, use_cache=True).past_key_values.layers
    both = torch.stack(
        [torch.stack([layer.keys[0], layer.values[0]]) for layer in layers]
    )  # (layers, 2, heads, L, size)
    return both.permute(3, 0, 1, 2, 4).flatten(1).cpu()
