"""A text read once for all its continuations: trees packed into one row of pieces, with no padding.

A *trunk* (a prompt, an input) is followed by several *branches* (its responses, its references). All trees of a batch stand in one
row: first the trunks, then the branches. Every linear layer of the model thus works on real pieces only, each trunk once; a branch's
positions continue its trunk's. Attention alone takes the row apart: a trunk attends to itself, a branch to its trunk and to itself.
The result is that of separate rows, trunk and branch in each, exactly but for the order of floating-point sums.

Works with every `transformers` model whose attention goes through `AttentionInterface` and whose positions come from `position_ids`
(Llama, GPT-2, Qwen and others); `prepare` refuses those that would give another result.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from data.errors import InputError

ATTENTION = "packed_trees"


@dataclass(frozen=True)
class Trees:
    """G trunks of at most P pieces, each with at most K branches of at most S, in one row of N pieces: trunks first, then branches."""

    pieces: Tensor  # (1, N)
    positions: Tensor  # (1, N)
    trunk_lengths: Tensor  # (G,)
    branch_lengths: Tensor  # (R,)
    sizes: tuple[int, int, int, int]  # pieces of all trunks, P, K, S
    trunk_cells: Tensor  # the cells of a padded (G, P) that hold pieces, in the row's order
    branch_cells: Tensor  # the same of (G, K, S)
    masks: dict[Any, tuple[Tensor | None, Tensor]] = field(default_factory=dict)  # made at the first layer, used by all

    def to(self, device: torch.device) -> "Trees":
        names = ("pieces", "positions", "trunk_lengths", "branch_lengths", "trunk_cells", "branch_cells")
        return replace(self, **{name: getattr(self, name).to(device) for name in names}, masks={})

    def ends(self) -> Tensor:
        """(R,) places in the row of each branch's last piece."""
        return self.sizes[0] + self.branch_lengths.cumsum(0) - 1


def pack(trees: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]]) -> Trees:
    """Packs (trunk, branches) of piece ids; no trunk and no branch may be empty."""
    counts = np.array([len(branches) for _, branches in trees])
    trunk_lengths = np.array([len(trunk) for trunk, _ in trees])
    branch_lengths = np.array([len(branch) for _, branches in trees for branch in branches])
    widest_trunk, most, widest_branch = int(trunk_lengths.max()), int(counts.max()), int(branch_lengths.max())
    trunk_of, place_in_trunk = _cells(counts)
    trunk_rows, trunk_places = _cells(trunk_lengths)
    branch_rows, branch_places = _cells(branch_lengths)
    slots = (trunk_of * most + place_in_trunk)[branch_rows]
    positions = np.concatenate([trunk_places, branch_places + trunk_lengths[trunk_of][branch_rows]])
    texts = [*(trunk for trunk, _ in trees), *(branch for _, branches in trees for branch in branches)]
    return Trees(
        pieces=torch.from_numpy(np.concatenate([np.asarray(text, np.int64) for text in texts]))[None],
        positions=torch.from_numpy(positions)[None],
        trunk_lengths=torch.from_numpy(trunk_lengths),
        branch_lengths=torch.from_numpy(branch_lengths),
        sizes=(int(trunk_lengths.sum()), widest_trunk, most, widest_branch),
        trunk_cells=torch.from_numpy(trunk_rows * widest_trunk + trunk_places),
        branch_cells=torch.from_numpy(slots * widest_branch + branch_places),
    )


def _cells(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and place of each element of rows of these lengths, one row after the other."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def prepare(model: PreTrainedModel) -> PreTrainedModel:
    """Lets `model` read packed trees, and nothing else from now on; `release` undoes it.

    Raises:
        InputError: its attention differs from layer to layer, is cut to a window or is code of its own, so packing would change the
            result.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention"}
    if kinds or (getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)):
        found = ", ".join(sorted(kinds)) or "a sliding window"
        raise InputError(f"{config.model_type}: its attention has {found}; only full attention can be packed.")
    AttentionInterface.register(ATTENTION, tree_attention)
    model.set_attn_implementation(ATTENTION)
    if model.config._attn_implementation != ATTENTION:  # transformers only logs that it kept the old one
        raise InputError(f"{config.model_type}: its attention is its own and cannot be packed. Choose another body.")
    return model


def release(model: PreTrainedModel) -> PreTrainedModel:
    """Gives `model` its ordinary attention back."""
    model.set_attn_implementation("sdpa")
    return model


def states(base: nn.Module, trees: Trees, **options: Any) -> Tensor:
    """(N, d) last hidden states of the row. `base` is the body of a prepared model; `options` go to its forward.

    A key/value cache (`past_key_values`, batch 1) stands before every trunk, and moves all positions by its length.
    """
    before = options["past_key_values"].get_seq_length() if options.get("past_key_values") is not None else 0
    found = base(input_ids=trees.pieces, position_ids=trees.positions + before, trees=trees, use_cache=False, **options)
    if not trees.masks:
        raise RuntimeError("the model did not read the trees as trees: its attention is not that of `prepare`")
    hidden: Tensor = found.last_hidden_state[0]
    return hidden


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    trees: Trees | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over a packed row, in the form that `AttentionInterface` calls.

    Args:
        query: (1, H, N, d).
        key: (1, heads, L + N, d) where H is a multiple of heads and L is the length of a cache before all trunks.
        value: the same.

    Returns:
        (1, N, H, d).
    """
    if trees is None:
        raise ValueError("this model is prepared for packed trees: call packing.states, or packing.release it first")
    before = key.shape[2] - query.shape[2]
    (q_trunk, q_branch), (k_trunk, k_branch), (v_trunk, v_branch) = (
        _split(x, trees) for x in (query, key[:, :, before:], value[:, :, before:])
    )
    if before:
        k_trunk, v_trunk = (
            torch.cat([x[:, :, :before].expand(len(own), -1, -1, -1), own], 2)
            for x, own in ((key, k_trunk), (value, v_trunk))
        )
    # The one copy of a trunk's keys and values for each of its branches: what attention kernels ask for.
    k_branch, v_branch = (
        torch.cat(
            [trunk[:, None].expand(-1, trees.sizes[2], -1, -1, -1), own.unflatten(0, (len(trunk), -1))], 3
        ).flatten(0, 1)
        for trunk, own in ((k_trunk, k_branch), (v_trunk, v_branch))
    )
    share = query.shape[1] // key.shape[1]
    trunk_mask, branch_mask = _masks(trees, before, share, query)
    options: dict[str, Any] = {"dropout_p": dropout, "scale": scaling}
    from_trunks = F.scaled_dot_product_attention(
        _stacked(q_trunk, share), k_trunk, v_trunk, trunk_mask, is_causal=trunk_mask is None, **options
    )
    from_branches = F.scaled_dot_product_attention(
        _stacked(q_branch, share), k_branch, v_branch, branch_mask, **options
    )
    rows = [
        _gathered(_unstacked(from_trunks, share), trees.trunk_cells),
        _gathered(_unstacked(from_branches, share), trees.branch_cells),
    ]
    return torch.cat(rows)[None], None


def _split(row: Tensor, trees: Trees) -> tuple[Tensor, Tensor]:
    """Trunks (G, heads, P, d) and branches (G * K, heads, S, d) of a row (1, heads, N, d)."""
    pieces, (trunks, width, most, branch_width) = row[0].transpose(0, 1), trees.sizes
    groups = len(trees.trunk_lengths)
    return (
        _spread(pieces[:trunks], trees.trunk_cells, groups, width),
        _spread(pieces[trunks:], trees.branch_cells, groups * most, branch_width),
    )


def _spread(pieces: Tensor, cells: Tensor, rows: int, width: int) -> Tensor:
    """(rows, heads, width, d) of (pieces, heads, d), zeros where there is no piece."""
    if len(pieces) < rows * width:  # otherwise all are of one length and stand where they should
        pieces = pieces.new_zeros(rows * width, *pieces.shape[1:]).index_copy(0, cells, pieces)
    return pieces.reshape(rows, width, *pieces.shape[1:]).transpose(1, 2)


def _gathered(padded: Tensor, cells: Tensor) -> Tensor:
    """(pieces, heads, d): what `_spread` had put into the cells of (rows, heads, width, d)."""
    rows = padded.transpose(1, 2).flatten(0, 1)
    return rows if len(cells) == len(rows) else rows.index_select(0, cells)


def _stacked(query: Tensor, share: int) -> Tensor:
    """(rows, heads, share * width, d) of (rows, heads * share, width, d): grouped queries one after the other, so that no key is copied."""
    return query if share == 1 else query.unflatten(1, (-1, share)).flatten(2, 3)


def _unstacked(found: Tensor, share: int) -> Tensor:
    return found if share == 1 else found.unflatten(2, (share, -1)).flatten(1, 2)


def _masks(trees: Trees, before: int, share: int, like: Tensor) -> tuple[Tensor | None, Tensor]:
    """Added to the scores of trunks (share * P, L + P; None: causal) and of branches (G * K, 1, share * S, L + P + S): 0 or -inf."""
    key = (before, like.dtype)
    if key not in trees.masks:
        _, width, most, branch_width = trees.sizes
        arange = partial(torch.arange, device=like.device)
        trunk = arange(before + width) <= before + arange(width)[:, None]
        in_trunk = arange(before + width) < before + trees.trunk_lengths[:, None]
        causal = arange(branch_width) <= arange(branch_width)[:, None]
        groups = len(trees.trunk_lengths)
        branch = torch.cat([in_trunk[:, None].expand(-1, branch_width, -1), causal.expand(groups, -1, -1)], 2)
        trees.masks[key] = (
            _added(trunk.repeat(share, 1), like) if before or share > 1 else None,
            _added(branch.repeat(1, share, 1).repeat_interleave(most, 0)[:, None], like),
        )
    return trees.masks[key]


def _added(allowed: Tensor, like: Tensor) -> Tensor:
    return torch.zeros(allowed.shape, dtype=like.dtype, device=like.device).masked_fill(~allowed, -torch.inf)
