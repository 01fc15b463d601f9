"""Attention over a row of shared prompts, in the form that `AttentionInterface` of `transformers` calls.

A prompt attends to itself, a continuation to its prompt and to itself. All other layers of a model see one row of real tokens.
Only attention splits it into padded prompts and padded continuations. No mask covers tokens of other prompts, and no kernel is written for it.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.shared_prompt.padding import pad, unpad
from lightning_modules.shared_prompt.row import Prefixes, SharedPromptRow

# Attention scores that one layer may keep for the gradient where attention is computed as three matrix operations.
MAX_KEPT_SCORES = 4_000_000


@dataclass(frozen=True)
class AttentionContext:
    """What attention has to know of one forward pass."""

    row: SharedPromptRow
    prefixes: Prefixes | None
    masks: dict[str, Tensor | None] = field(default_factory=dict)  # made at the first layer, used by all


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    attention_context: AttentionContext | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of a row's prompts and continuations.

    Args:
        query: (1, H, N, d).
        key: (1, heads, N, d) where H is a multiple of heads; value: the same.

    Returns:
        (1, N, H, d).

    Raises:
        ValueError: the model was called with ordinary rows.
    """
    if attention_context is None:
        raise ValueError(
            "inside `shared_prompt_attention` a model reads rows of shared prompts only: call `shared_prompt_states`, or leave the context"
        )
    row, prefixes, masks = attention_context.row, attention_context.prefixes, attention_context.masks
    queries_per_key = query.shape[1] // key.shape[1]
    if not masks:
        masks.update(_masks(row, prefixes, queries_per_key, query))
    attend_padded = partial(_attend_padded, queries_per_key=queries_per_key, dropout=dropout, scaling=scaling)

    (prompt_query, continuation_query), *keys_values = (_split(x, row) for x in (query, key, value))
    prompts = [of_prompts for of_prompts, _ in keys_values]
    with_prefix = prompts
    if prefixes is not None:
        layer = prefixes.layers[cast(int, module.layer_idx)]
        trained = [prefixes.by_prompt(x, len(prompts[0])).to(key.dtype) for x in layer]
        with_prefix = [torch.cat(pair, 2) for pair in zip(trained, prompts, strict=True)]
    seen_by_prompts = prompts if prefixes is None or prefixes.infix else with_prefix
    outputs = []
    if row.sizes[1]:  # otherwise all prompts are empty
        outputs.append(unpad(attend_padded(prompt_query, seen_by_prompts, mask=masks["prompt"]), row.prompt_cells))
    if row.sizes[2]:
        # Attention kernels ask for a copy of a prompt's keys and values for each of its continuations: this is the only one.
        # The gradient of this form is a sum in the same order every time. On a CPU that of x[prompt_of] is not, on a GPU that of
        # index_select is not.
        on_cpu = query.device.type == "cpu"
        copies = [x.index_select(0, row.prompt_of) if on_cpu else x[row.prompt_of] for x in with_prefix]
        seen = [torch.cat([copy, continuation], 2) for copy, (_, continuation) in zip(copies, keys_values, strict=True)]
        padded = attend_padded(continuation_query, seen, mask=masks["continuation"])
        outputs.append(unpad(padded, row.continuation_cells))
    return torch.cat(outputs)[None], None


def _attend_padded(
    query: Tensor,
    keys_values: list[Tensor],
    *,
    mask: Tensor | None,
    queries_per_key: int,
    dropout: float,
    scaling: float | None,
) -> Tensor:
    """(rows, H, width, d): attention of padded rows; without a mask it is causal."""
    keys, values = keys_values
    query = _stack_grouped(query, queries_per_key)
    if (
        mask is not None
        and _use_explicit_attention(query)
        and query.shape[:-1].numel() * keys.shape[2] <= MAX_KEPT_SCORES
    ):
        scores = (query @ keys.mT).float() * (query.shape[-1] ** -0.5 if scaling is None else scaling) + mask
        output = F.dropout(scores.softmax(-1), dropout).to(values.dtype) @ values
    else:
        output = F.scaled_dot_product_attention(
            query, keys, values, mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
        )
    return _unstack_grouped(output, queries_per_key)


def _split(row: Tensor, layout: SharedPromptRow) -> tuple[Tensor, Tensor]:
    """Prompts (B, heads, P, d) and continuations (R, heads, C, d) of a row (1, heads, N, d)."""
    tokens, (prompt_tokens, prompt_width, continuation_width) = row[0].transpose(0, 1), layout.sizes
    return (
        pad(tokens[:prompt_tokens], layout.prompt_cells, (len(layout.prompt_lengths), prompt_width)),
        pad(tokens[prompt_tokens:], layout.continuation_cells, (len(layout.continuation_lengths), continuation_width)),
    )


def _stack_grouped(query: Tensor, queries_per_key: int) -> Tensor:
    """(rows, heads, g * width, d) of (rows, heads * g, width, d): the queries of a key one after the other, so no key is copied."""
    return query if queries_per_key == 1 else query.unflatten(1, (-1, queries_per_key)).flatten(2, 3)


def _unstack_grouped(output: Tensor, queries_per_key: int) -> Tensor:
    return output if queries_per_key == 1 else output.unflatten(2, (queries_per_key, -1)).flatten(1, 2)


def _use_explicit_attention(like: Tensor) -> bool:
    """Whether attention is three matrix operations: in bf16 on a CPU the gradient of torch's fused one takes seven times as long."""
    in_bf16 = torch.is_autocast_enabled("cpu") or like.dtype == torch.bfloat16
    return in_bf16 and like.device.type == "cpu" and torch.is_grad_enabled()


def _masks(
    row: SharedPromptRow, prefixes: Prefixes | None, queries_per_key: int, like: Tensor
) -> dict[str, Tensor | None]:
    """Masks to add to the scores, 0 or -inf. With g queries per key:

    "prompt": (B or 1, 1, g * P, L + P), None: causal; "continuation": (R, 1, g * C, L + P + C).
    """
    _, prompt_width, continuation_width = row.sizes
    arange = partial(torch.arange, device=like.device)
    prompts, prefix_width = len(row.prompt_lengths), 0 if prefixes is None else prefixes.max_length()
    in_prefix = arange(prefix_width).expand(prompts, -1) >= 0
    mixed = prefixes is not None and prefixes.prefix_of is not None
    if prefixes is not None and mixed:  # shorter prefixes are padded on the left
        in_prefix = arange(prefix_width) >= prefix_width - prefixes.by_prompt(prefixes.lengths, prompts)[:, None]
    prompt_mask = None
    if queries_per_key > 1 or (prefixes is not None and not prefixes.infix) or _use_explicit_attention(like):
        seen_prefix = in_prefix if mixed else in_prefix[:1]  # (B or 1, L)
        seen_prefix = seen_prefix[:, :0] if prefixes is not None and prefixes.infix else seen_prefix
        prompt_mask = _additive_mask(seen_prefix, prompt_width, queries_per_key, like)
    in_prompt = torch.cat([in_prefix, arange(prompt_width) < row.prompt_lengths[:, None]], 1)  # (B, L + P)
    continuation_mask = _additive_mask(in_prompt[row.prompt_of], continuation_width, queries_per_key, like)
    return {"prompt": prompt_mask, "continuation": continuation_mask}


def _additive_mask(seen_before: Tensor, width: int, queries_per_key: int, like: Tensor) -> Tensor:
    """(rows, 1, g * width, M + width) of the keys before a text, (rows, M), which its tokens see or not, and its causal own ones."""
    places = torch.arange(width, device=like.device)
    causal = places <= places[:, None]
    seen = [seen_before[:, None].expand(-1, width, -1), causal.expand(len(seen_before), -1, -1)]
    allowed = torch.cat(seen, 2).repeat(1, queries_per_key, 1)[:, None]
    return torch.zeros(allowed.shape, dtype=like.dtype, device=like.device).masked_fill(~allowed, -torch.inf)
