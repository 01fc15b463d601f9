"""Prefixes of the encoder-decoders of `transformers`: BART's kind and T5's.

Keys and values come in through `AttentionInterface`, in encoder, decoder and between, so that generation with its own cache, beams
and gradient checkpointing work as they do without. Texts keep their own positions; T5's relative bias of a prefix is 0.
"""

from collections.abc import Iterator
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask

from core.errors import InputError
from lightning_modules.encoder_decoder_prefix.translator import EncoderDecoderPrefix, PartShape

ATTENTION = "prefixed"
_ordinary: WeakKeyDictionary[PreTrainedModel, str] = WeakKeyDictionary()  # the attention before
NAMES = {"self_attn": "own", "SelfAttention": "own", "encoder_attn": "cross", "EncDecAttention": "cross"}


def attentions(base: PreTrainedModel) -> dict[str, list[nn.Module]]:
    """The attention modules of encoder, cross- and decoder attention, layer by layer.

    Raises:
        InputError: the model has them under names of its own.
    """
    encoder, decoder = base.get_encoder(), base.get_decoder()
    found = {
        "encoder": list(_named(encoder, "own")),
        "cross": list(_named(decoder, "cross")),
        "decoder": list(_named(decoder, "own")),
    }
    if not all(found.values()) or len(found["cross"]) != len(found["decoder"]):
        raise InputError(
            f"{base.config.model_type}: no encoder-decoder of BART's or T5's kind; prefixes do not fit it."
        )
    return found


def _named(stack: nn.Module, kind: str) -> Iterator[nn.Module]:
    return (m for name, m in stack.named_modules() if NAMES.get(name.rpartition(".")[2]) == kind)


def _projections(attention: nn.Module) -> tuple[nn.Module, nn.Module]:
    keys, values = ("k", "v") if hasattr(attention, "k") else ("k_proj", "v_proj")
    return attention.get_submodule(keys), attention.get_submodule(values)


def _size(attention: Any) -> int:
    return int(attention.head_dim if hasattr(attention, "head_dim") else attention.key_value_proj_dim)


def shapes(base: PreTrainedModel) -> dict[str, PartShape]:
    """Attentions of each part: their number, heads and head size."""
    found = {}
    for part, modules in attentions(base).items():
        keys, _ = _projections(modules[0])
        size = _size(modules[0])
        found[part] = PartShape(len(modules), int(keys.out_features) // size, size)  # type: ignore[arg-type]
    return found


def attach(base: PreTrainedModel, prefix: EncoderDecoderPrefix) -> None:
    """Lets `base` read `prefix` from now on, as it is at this moment: call it before each forward pass of training; `detach` undoes it.

    Raises:
        InputError: the base's attention is code of its own.
    """
    AttentionInterface.register(ATTENTION, prefixed_attention)
    AttentionMaskInterface.register(
        ATTENTION, eager_mask
    )  # always written out, so that a prefix's columns can be added
    if (before := base.config._attn_implementation) != ATTENTION:
        base.set_attn_implementation(ATTENTION)
        _ordinary[base] = before
    if base.config._attn_implementation != ATTENTION:
        raise InputError(f"{base.config.model_type}: its attention is its own; prefixes do not fit it.")
    trained = prefix.key_values()
    for part, modules in attentions(base).items():
        for module, own in zip(modules, trained[part], strict=True):
            object.__setattr__(module, "trained", own)


def detach(base: PreTrainedModel) -> PreTrainedModel:
    """Gives `base` the attention back that it had before `attach`; nothing of the prefix stays with it."""
    if base.config._attn_implementation == ATTENTION:
        base.set_attn_implementation(_ordinary.get(base, "sdpa"))
        for modules in attentions(base).values():
            for module in modules:
                vars(module).pop("trained", None)
    return base


def prefixed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention with the module's trained keys and values before those it read, in the form that `AttentionInterface` calls."""
    trained: tuple[Tensor, Tensor] = cast(Any, module).trained
    key, value = (
        torch.cat([own.to(read.dtype).expand(len(read), -1, -1, -1), read], 2)
        for own, read in zip(trained, (key, value), strict=True)
    )
    length = trained[0].shape[1]
    added = [x for x in (attention_mask, position_bias) if x is not None]
    mask = torch.nn.functional.pad(sum(added[1:], added[0]), (length, 0)) if added else None  # 0: seen by all, no bias
    options = {name: options[name] for name in ("dropout", "scaling") if name in options}
    found, _ = sdpa_attention_forward(module, query, key, value, mask, is_causal=False, **options)
    return found, None


@torch.no_grad()
def activations(base: PreTrainedModel, words: Tensor) -> dict[str, Tensor]:
    """The keys and values of words (L,), read alone by encoder and decoder, in the layout of `EncoderDecoderPrefix.flat`."""
    read: dict[str, list[Tensor]] = {}
    hooks = []
    for part, modules in attentions(base).items():
        read[part] = []
        for module in modules:
            for projection in _projections(module):

                def keep(_: nn.Module, __: Any, found: Tensor, into: list[Tensor] = read[part]) -> None:
                    into.append(found[0].cpu())  # (L, heads * size): keys of a layer, then its values

                hooks.append(projection.register_forward_hook(keep))
    training, text = base.training, words[None].to(base.device)
    base.eval().base_model(input_ids=text, decoder_input_ids=text, use_cache=False)
    base.train(training)
    for hook in hooks:
        hook.remove()
    return {part: torch.cat(layers, 1) for part, layers in read.items()}
