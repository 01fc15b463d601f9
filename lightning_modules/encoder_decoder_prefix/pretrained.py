"""Prefixes of the encoder-decoders of `transformers`: BART's kind and T5's.

Keys and values enter through `AttentionInterface`, in encoder, decoder and cross-attention. So generation with its own cache, beam search
and gradient checkpointing work as without a prefix. Texts keep their own positions. T5's relative bias of a prefix is 0.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask

from core.errors import InputError
from lightning_modules.encoder_decoder_prefix.translator import EncoderDecoderPrefix, PartShape
from lightning_modules.shared_prompt.reading import switched_attention

ATTENTION = "prefixed"
KINDS_OF_ATTENTION = {"self_attn": "self", "SelfAttention": "self", "encoder_attn": "cross", "EncDecAttention": "cross"}


def attentions(base: PreTrainedModel) -> dict[str, list[nn.Module]]:
    """The attention modules of encoder, cross- and decoder attention, layer by layer.

    Raises:
        InputError: the model has them under names of its own.
    """
    encoder, decoder = base.get_encoder(), base.get_decoder()
    modules = {
        "encoder": list(_named(encoder, "self")),
        "cross": list(_named(decoder, "cross")),
        "decoder": list(_named(decoder, "self")),
    }
    if not all(modules.values()) or len(modules["cross"]) != len(modules["decoder"]):
        raise InputError(
            f"{base.config.model_type}: no encoder-decoder of BART's or T5's kind; prefixes do not fit it."
        )
    return modules


def _named(stack: nn.Module, kind: str) -> Iterator[nn.Module]:
    return (m for name, m in stack.named_modules() if KINDS_OF_ATTENTION.get(name.rpartition(".")[2]) == kind)


def _projections(attention: nn.Module) -> tuple[nn.Module, nn.Module]:
    keys, values = ("k", "v") if hasattr(attention, "k") else ("k_proj", "v_proj")
    return attention.get_submodule(keys), attention.get_submodule(values)


def _head_size(attention: Any) -> int:
    return int(attention.head_dim if hasattr(attention, "head_dim") else attention.key_value_proj_dim)


def shapes(base: PreTrainedModel) -> dict[str, PartShape]:
    """Attentions of each part: their number, heads and head size."""
    part_shapes = {}
    for part, modules in attentions(base).items():
        keys, _ = _projections(modules[0])
        size = _head_size(modules[0])
        part_shapes[part] = PartShape(len(modules), int(keys.out_features) // size, size)  # type: ignore[arg-type]
    return part_shapes


@contextmanager
def prefix_attention(base: PreTrainedModel, prefix: EncoderDecoderPrefix) -> Iterator[None]:
    """Inside, `base` reads `prefix`; afterwards it has the attention that it had before, and nothing of the prefix stays with it.

    Keys and values are computed on entry, so training enters it for each update, around forward and backward pass.

    Raises:
        InputError: the base's attention does not go through `AttentionInterface`.
    """
    AttentionInterface.register(ATTENTION, prefixed_attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)  # always written out, so columns of a prefix can be added
    trained = prefix.key_values()
    with switched_attention(base, ATTENTION):
        if base.config._attn_implementation != ATTENTION:
            raise InputError(f"{base.config.model_type}: its attention is its own; prefixes do not fit it.")
        by_module: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        for part, modules in attentions(base).items():
            by_module |= dict(zip(modules, trained[part], strict=True))
        before = {module: vars(module).get("trained") for module in by_module}
        _give(by_module)
        try:
            yield
        finally:
            _give(before)


def _give(trained: Mapping[nn.Module, tuple[Tensor, Tensor] | None]) -> None:
    """Gives attention modules their trained keys and values, or takes them away."""
    for module, keys_values in trained.items():
        vars(module).pop("trained", None)
        if keys_values is not None:
            vars(module)["trained"] = keys_values


def prefixed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention with the module's trained keys and values before those of the text, in the form that `AttentionInterface` calls."""
    trained: tuple[Tensor, Tensor] = cast(Any, module).trained
    key, value = (
        torch.cat([before.to(read.dtype).expand(len(read), -1, -1, -1), read], 2)
        for before, read in zip(trained, (key, value), strict=True)
    )
    length = trained[0].shape[1]
    biases = [x for x in (attention_mask, position_bias) if x is not None]
    mask = (
        torch.nn.functional.pad(sum(biases[1:], biases[0]), (length, 0)) if biases else None
    )  # 0: seen by all, no bias
    options = {name: options[name] for name in ("dropout", "scaling") if name in options}
    output, _ = sdpa_attention_forward(module, query, key, value, mask, is_causal=False, **options)
    return output, None


@torch.no_grad()
def activations(base: PreTrainedModel, words: Tensor) -> dict[str, Tensor]:
    """The keys and values of words (L,), read alone by encoder and decoder, in the layout of `EncoderDecoderPrefix.prompt_embeddings`."""
    read: dict[str, list[Tensor]] = {}
    hooks = []
    for part, modules in attentions(base).items():
        read[part] = []
        for module in modules:
            for projection in _projections(module):

                def keep(_: nn.Module, __: Any, output: Tensor, into: list[Tensor] = read[part]) -> None:
                    into.append(output[0].cpu())  # (L, heads * size): keys of a layer, then its values

                hooks.append(projection.register_forward_hook(keep))
    training, text = base.training, words[None].to(base.device)
    base.eval().base_model(input_ids=text, decoder_input_ids=text, use_cache=False)
    base.train(training)
    for hook in hooks:
        hook.remove()
    return {part: torch.cat(layers, 1) for part, layers in read.items()}
