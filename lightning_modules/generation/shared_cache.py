"""Keys and values of prompts and of what is generated after them, each prompt once for all its beams.

`transformers.generate` reads a prompt once for each beam, keeps a copy of its keys for each, and copies all keys when beams change
places. Here one block holds, for each prompt, the keys and values of its tokens and then those of the beams' tokens, step by step.
Nothing in it moves: an attention mask tells which of these a beam descends from. The beams of a prompt are queries of one row, so
attention reads the prompt's keys once, and grouped queries read them without a copy. Prompts that are done leave the block.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, DynamicCache, PreTrainedModel

from data.batching import left_padded
from lightning_modules.prefix_tuning.prefix import BatchAdapter

ATTENTION = "shared_cache"


class SharedCache:
    """Keys and values of B prompts (S positions, padding included) and of the tokens of their W beams, at every layer."""

    def __init__(
        self,
        base: PreTrainedModel,
        adapter: BatchAdapter,
        prompts: Sequence[list[int]],
        beam_size: int,
        max_new_tokens: int,
    ) -> None:
        """Reads the prompts of token ids, none of them empty, under the adapted base."""
        text, text_mask = (x.to(base.device) for x in left_padded(prompts))
        inputs = adapter.generation_inputs(base, text, text_mask, 1)
        past, mask = inputs.get("past_key_values") or DynamicCache(), inputs["attention_mask"]
        already_read = past.get_seq_length()
        states = base.base_model(
            **{name: inputs[name][:, already_read:] for name in ("input_ids", "inputs_embeds") if name in inputs},
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, already_read:],
            past_key_values=past,
            use_cache=True,
        ).last_hidden_state
        self.base, self.beam_size = base, beam_size
        self.used = mask.shape[1]  # positions of the block that hold keys and values
        self.positions = mask.sum(1)  # (B,) of the token that comes next
        self.last = states[:, -1]  # (B, d) what predicts the first token
        layers: list[Any] = past.layers
        rows, heads, _, head_size = layers[0].keys.shape
        # (layers, 2, B, heads, S + W * steps, head size)
        self.block = states.new_empty(len(layers), 2, rows, heads, self.used + beam_size * max_new_tokens, head_size)
        for keys_values, layer in zip(self.block, layers, strict=True):
            keys_values[0, :, :, : self.used], keys_values[1, :, :, : self.used] = layer.keys, layer.values
        self.seen = mask.bool()[:, None].expand(-1, beam_size, -1)  # (B, W, positions) what each beam attends to
        self.bias = torch.empty(0)  # the same as what attention adds to its scores: 0 or minus infinity

    def step(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """(B, W, d) last hidden states at `tokens` (B, W), which extend the beams `parents` (B, W)."""
        itself = torch.eye(self.beam_size, dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
        ancestors = self.seen.gather(1, parents[:, :, None].expand(-1, -1, self.seen.shape[2]))
        self.seen = torch.cat([ancestors, itself], 2)
        self.bias = torch.zeros(self.seen.shape, dtype=self.block.dtype, device=tokens.device).masked_fill_(
            ~self.seen, -torch.inf
        )
        positions = self.positions[:, None].expand(-1, self.beam_size)
        output = self.base.base_model(input_ids=tokens, position_ids=positions, shared_cache=self, use_cache=False)
        self.positions, self.used = self.positions + 1, self.used + self.beam_size
        states: Tensor = output.last_hidden_state
        return states

    def keep(self, prompts: Tensor) -> None:
        """Drops all prompts but those at these places."""
        self.block, self.seen = self.block[:, :, prompts], self.seen[prompts]
        self.positions = self.positions[prompts]


@contextmanager
def shared_cache_attention(base: PreTrainedModel) -> Iterator[None]:
    """Within it the base's attention reads a `SharedCache`; afterwards the base has its own attention again."""
    AttentionInterface.register(ATTENTION, attend)
    before = base.config._attn_implementation
    base.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        base.set_attn_implementation(before)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    shared_cache: SharedCache | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of the beams (B, heads, W, d) over their prompt and their own past, in the form that `AttentionInterface` calls.

    `key` and `value` (B, key/value heads, W, d) of the beams' newest tokens go into the cache.
    """
    assert shared_cache is not None
    keys, values = shared_cache.block[int(module.layer_idx)]  # type: ignore[arg-type]
    start, end = shared_cache.used, shared_cache.used + shared_cache.beam_size
    keys[:, :, start:end], values[:, :, start:end] = key, value
    groups = query.shape[1] // key.shape[1]  # query heads that share a key/value head
    attended = F.scaled_dot_product_attention(
        query.unflatten(1, (-1, groups)).flatten(2, 3),
        keys[:, :, :end],
        values[:, :, :end],
        shared_cache.bias.repeat(1, groups, 1)[:, None],
        scale=scaling,
    )
    return attended.unflatten(2, (groups, -1)).flatten(1, 2).transpose(1, 2), None
