"""A text read once for all its continuations: trees packed into one row of tokens, with no padding.

A *trunk* (a prompt, an input) is followed by several *branches* (its responses, its references). All trees of a batch stand in one
row: first the trunks, then the branches. Every linear layer of the model thus works on real tokens only, each trunk once; a branch's
positions continue its trunk's. Attention alone takes the row apart: a trunk attends to itself, a branch to its trunk and to itself.
The result is that of separate rows, trunk and branch in each, exactly but for the order of floating-point sums. Trunks without branches
are rows of their own, packed without padding.

Trained keys and values (`Prefixes`) may stand before the trunks, or between trunk and branch. They reach attention beside the model's own
arguments, not as a key/value cache, which gradient checkpointing would drop.

Works with every `transformers` model whose attention goes through `AttentionInterface` and whose positions come from `position_ids`
(Llama, GPT-2, Qwen and others); `prepare` refuses those that would give another result.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from core.errors import InputError

ATTENTION = "packed_trees"
SCORES = 4_000_000  # kept for a gradient at most, layer by layer, where attention is three products
TRIED = [([1, 2, 3], [[4], [5, 6]]), ([7], [[8, 9, 2]])]  # two trees of token ids
# The own attention of models that were found to pack.
_ordinary: WeakKeyDictionary[PreTrainedModel, str] = WeakKeyDictionary()


@dataclass(frozen=True)
class Trees:
    """G trunks of at most P tokens and their R branches of at most S, in one row of N tokens: trunks first, then branches."""

    tokens: Tensor  # (1, N)
    positions: Tensor  # (1, N)
    trunk_lengths: Tensor  # (G,)
    branch_lengths: Tensor  # (R,)
    trunk_of: Tensor  # (R,) the trunk that a branch continues
    sizes: tuple[int, int, int]  # tokens of all trunks, P, S
    trunk_cells: "Cells"  # of a padded (G, P)
    branch_cells: "Cells"  # of (R, S)

    def to(self, device: torch.device) -> "Trees":
        names = ("tokens", "positions", "trunk_lengths", "branch_lengths", "trunk_of", "trunk_cells", "branch_cells")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def ends(self) -> Tensor:
        """(R,) places in the row of each branch's last token."""
        return self.sizes[0] + self.branch_lengths.cumsum(0) - 1


@dataclass(frozen=True)
class Cells:
    """How tokens one after the other stand in padded rows."""

    of_tokens: Tensor  # (n,) the cell of each token
    tokens: (
        Tensor  # (rows * width,) the token of each cell; that of padding is some token, which attention does not see
    )

    def to(self, device: torch.device) -> "Cells":
        return Cells(self.of_tokens.to(device), self.tokens.to(device))


@dataclass(frozen=True)
class Prefixes:
    """Trained keys and values: M prefixes of at most L positions, which move the positions of what follows them by their length.

    Shorter ones stand on the right of L.
    """

    layers: Sequence[tuple[Tensor, Tensor]]  # keys and values of each layer, (M, heads, L, d)
    lengths: Tensor  # (M,)
    of: Tensor | None = None  # (G,) which of them a trunk has; None: all have the only one
    infix: bool = False  # they stand between trunk and branch, and the trunk does not see them

    def longest(self) -> int:
        return self.layers[0][0].shape[2]

    def own(self, values: Tensor, groups: int) -> Tensor:
        """(G, ...) of (M, ...): what belongs to each trunk's prefix."""
        return values.expand(groups, *values.shape[1:]) if self.of is None else values.index_select(0, self.of)


def pack(trees: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]]) -> Trees:
    """Packs (trunk, branches) of token ids. A trunk without branches must not be empty."""
    counts = np.array([len(branches) for _, branches in trees])
    trunk_lengths = np.array([len(trunk) for trunk, _ in trees])
    branch_lengths = np.array([len(branch) for _, branches in trees for branch in branches], np.int64)
    widest_trunk, widest_branch = int(trunk_lengths.max()), int(branch_lengths.max(initial=0))
    trunk_of, _ = _cells(counts)
    trunk_rows, trunk_places = _cells(trunk_lengths)
    branch_rows, branch_places = _cells(branch_lengths)
    positions = np.concatenate([trunk_places, branch_places + trunk_lengths[trunk_of][branch_rows]])
    texts = [*(trunk for trunk, _ in trees), *(branch for _, branches in trees for branch in branches)]
    return Trees(
        tokens=torch.from_numpy(np.concatenate([np.asarray(text, np.int64) for text in texts]))[None],
        positions=torch.from_numpy(positions)[None],
        trunk_lengths=torch.from_numpy(trunk_lengths),
        branch_lengths=torch.from_numpy(branch_lengths),
        trunk_of=torch.from_numpy(trunk_of),
        sizes=(int(trunk_lengths.sum()), widest_trunk, widest_branch),
        trunk_cells=_padded_cells(trunk_rows * widest_trunk + trunk_places, len(trunk_lengths) * widest_trunk),
        branch_cells=_padded_cells(branch_rows * widest_branch + branch_places, len(branch_lengths) * widest_branch),
    )


def _padded_cells(of_tokens: np.ndarray, cells: int) -> Cells:
    tokens = np.zeros(cells, np.int64)
    tokens[of_tokens] = np.arange(len(of_tokens))
    return Cells(torch.from_numpy(of_tokens), torch.from_numpy(tokens))


def _cells(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and place of each element of rows of these lengths, one row after the other."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def prepare(model: PreTrainedModel) -> PreTrainedModel:
    """Lets `model` read packed trees, and nothing else from now on; `release` undoes it. Twice is once.

    The first time, two small trees are read packed and as separate rows: the only proof that attention is causal, that positions
    are those given, and that nothing else mixes the tokens of a row.

    Raises:
        InputError: its attention differs from layer to layer, is cut to a window or is code of its own, its positions depend on the
            longest text, or packing changes its states.
    """
    config = model.config.get_text_config()
    before = model.config._attn_implementation
    if before == ATTENTION:
        return model
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention"}
    if kinds or (getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)):
        found = ", ".join(sorted(kinds)) or "a sliding window"
        raise InputError(f"{config.model_type}: its attention has {found}; only full attention can be packed.")
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if rope in ("dynamic", "longrope"):
        raise InputError(
            f"{config.model_type}: its {rope} positions depend on the longest text that is read with a text."
        )
    AttentionInterface.register(ATTENTION, tree_attention)
    if model in _ordinary:
        model.set_attn_implementation(ATTENTION)
    elif problem := _problem(model):
        model.set_attn_implementation(before)
        raise InputError(f"{config.model_type}: {problem}. Choose another body.")
    _ordinary[model] = before
    return model


def release(model: PreTrainedModel) -> PreTrainedModel:
    """Gives `model` the attention back that it had before `prepare`."""
    if model.config._attn_implementation == ATTENTION:
        model.set_attn_implementation(_ordinary.get(model, "sdpa"))
    return model


@contextmanager
def ordinary(model: PreTrainedModel) -> Iterator[None]:
    """Reads ordinary rows, without gradients or dropout; afterwards all is as it was, prepared or not, module by module."""
    prepared = model.config._attn_implementation == ATTENTION
    release(model)
    with _still(model):
        yield
    if prepared:
        prepare(model)


@contextmanager
def _still(model: PreTrainedModel) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    with torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True


def _problem(model: PreTrainedModel) -> str | None:
    """Reads TRIED in separate rows and, prepared then, in packed trees; says what is against packing."""
    types: int = cast(Any, model.get_input_embeddings()).weight.shape[0]
    tried = [([i % types for i in trunk], [[i % types for i in b] for b in branches]) for trunk, branches in TRIED]
    rows = [torch.tensor([trunk + branch], device=model.device) for trunk, branches in tried for branch in branches]
    trees = pack(tried).to(model.device)
    try:
        with _still(model):
            expected = torch.stack([model.base_model(r, use_cache=False).last_hidden_state[0, -1] for r in rows])
            model.set_attn_implementation(ATTENTION)
            if model.config._attn_implementation != ATTENTION:  # transformers only logs that it kept the old one
                return "its attention is its own and cannot be packed"
            found = states(model.base_model, trees)[trees.ends()]
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError, TypeError, ValueError):  # no `position_ids`, no `reading`, or no use of them
        return "it cannot read packed trees"
    # Rounding only, with room to spare: what looks ahead, or counts its own positions, is far off.
    tolerance = 1e-3 if expected.dtype == torch.float32 else 5e-2
    if (found - expected).abs().max() <= tolerance * expected.abs().max():
        return None
    return "read as packed trees its states are others: its attention looks ahead, or its positions or its attention are its own"


@dataclass(frozen=True)
class _Reading:
    """What attention has to know of one forward pass."""

    trees: Trees
    prefixes: Prefixes | None
    masks: dict[str, Tensor | None] = field(default_factory=dict)  # made at the first layer, used by all


def states(
    base: nn.Module, trees: Trees, prefixes: Prefixes | None = None, embedded: Tensor | None = None, **options: Any
) -> Tensor:
    """(N, d) last hidden states of the row. `base` is the body of a prepared model; `options` go to its forward.

    `embedded` (1, N, d) takes the place of the tokens' embeddings.
    """
    reading = _Reading(trees, prefixes)
    text = {"input_ids": trees.tokens} if embedded is None else {"inputs_embeds": embedded}
    positions = trees.positions if prefixes is None else trees.positions + _moved(trees, prefixes)
    found = base(**text, position_ids=positions, reading=reading, use_cache=False, **options)
    if not reading.masks:
        raise RuntimeError("the model did not read the trees as trees: its attention is not that of `prepare`")
    hidden: Tensor = found.last_hidden_state[0]
    return hidden


def _moved(trees: Trees, prefixes: Prefixes) -> Tensor:
    """(1, N) how many trained positions stand before each token."""
    before = prefixes.own(prefixes.lengths, len(trees.trunk_lengths))
    trunks = (torch.zeros_like(before) if prefixes.infix else before).repeat_interleave(trees.trunk_lengths)
    return torch.cat([trunks, before[trees.trunk_of].repeat_interleave(trees.branch_lengths)])[None]


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    reading: _Reading | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over a packed row, in the form that `AttentionInterface` calls.

    Args:
        query: (1, H, N, d).
        key: (1, heads, N, d) where H is a multiple of heads; value: the same.

    Returns:
        (1, N, H, d).
    """
    if reading is None:
        raise ValueError("this model is prepared for packed trees: call packing.states, or packing.release it first")
    trees, prefixes, masks = reading.trees, reading.prefixes, reading.masks
    share = query.shape[1] // key.shape[1]
    if not masks:
        masks.update(_masks(trees, prefixes, share, query))

    def attend(q: Tensor, keys_values: list[Tensor], mask: Tensor | None) -> Tensor:
        k, v = keys_values
        q = _stacked(q, share)
        if mask is not None and _by_products(q) and q.shape[:-1].numel() * k.shape[2] <= SCORES:
            scores = (q @ k.mT).float() * (q.shape[-1] ** -0.5 if scaling is None else scaling) + mask
            found = F.dropout(scores.softmax(-1), dropout).to(v.dtype) @ v
        else:
            options: dict[str, Any] = {"dropout_p": dropout, "scale": scaling}
            found = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, **options)
        return _unstacked(found, share)

    (q_trunk, q_branch), *both = (_split(x, trees) for x in (query, key, value))
    with_trained = trunk = [of_trunk for of_trunk, _ in both]
    if prefixes is not None:
        trained = [prefixes.own(x, len(trunk[0])).to(key.dtype) for x in prefixes.layers[cast(int, module.layer_idx)]]
        with_trained = [torch.cat(pair, 2) for pair in zip(trained, trunk, strict=True)]
    seen_by_trunk = trunk if prefixes is None or prefixes.infix else with_trained
    rows = []
    if trees.sizes[1]:  # otherwise all trunks are empty
        rows.append(_gathered(attend(q_trunk, seen_by_trunk, masks["trunk"]), trees.trunk_cells))
    if trees.sizes[2]:
        # The one copy of a trunk's keys and values for each of its branches: what attention kernels ask for. Made so, its gradient
        # is a sum in the same order every time; of x[of] on a CPU, or of index_select on a GPU, it is not.
        of, cpu = trees.trunk_of, query.device.type == "cpu"
        copies = [x.index_select(0, of) if cpu else x[of] for x in with_trained]
        seen = [torch.cat([copy, own], 2) for copy, (_, own) in zip(copies, both, strict=True)]
        rows.append(_gathered(attend(q_branch, seen, masks["branch"]), trees.branch_cells))
    return torch.cat(rows)[None], None


def _split(row: Tensor, trees: Trees) -> tuple[Tensor, Tensor]:
    """Trunks (G, heads, P, d) and branches (R, heads, S, d) of a row (1, heads, N, d)."""
    tokens, (trunks, width, branch_width) = row[0].transpose(0, 1), trees.sizes
    return (
        _spread(tokens[:trunks], trees.trunk_cells, (len(trees.trunk_lengths), width)),
        _spread(tokens[trunks:], trees.branch_cells, (len(trees.branch_lengths), branch_width)),
    )


def _spread(tokens: Tensor, cells: Cells, shape: tuple[int, int]) -> Tensor:
    """(rows, heads, width, d) of (n, heads, d); `shape` is (rows, width)."""
    if len(tokens) < len(cells.tokens):  # otherwise all are of one length and stand where they should
        tokens = _Spread.apply(tokens, cells)
    return tokens.unflatten(0, shape).transpose(1, 2)


def _gathered(padded: Tensor, cells: Cells) -> Tensor:
    """(n, heads, d): what `_spread` had put into the cells of (rows, heads, width, d)."""
    rows = padded.transpose(1, 2).flatten(0, 1)
    return rows if len(cells.of_tokens) == len(rows) else _Gathered.apply(rows, cells)


class _Spread(torch.autograd.Function):
    """Tokens to cells. What stands in padding is not seen, so no gradient comes back from there: no sum over cells is needed."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, cells: Cells) -> Tensor:
        ctx.cells = cells
        return tokens.index_select(0, cells.tokens)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].index_select(0, ctx.cells.of_tokens), None


class _Gathered(torch.autograd.Function):
    """Cells to tokens: the other way round."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, cells: Cells) -> Tensor:
        ctx.cells = cells
        return rows.index_select(0, cells.of_tokens)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        padding = grad.new_zeros(len(ctx.cells.tokens), *grad.shape[1:])
        return padding.index_copy_(0, ctx.cells.of_tokens, grad), None


def _stacked(query: Tensor, share: int) -> Tensor:
    """(rows, heads, share * width, d) of (rows, heads * share, width, d): grouped queries one after the other, so that no key is copied."""
    return query if share == 1 else query.unflatten(1, (-1, share)).flatten(2, 3)


def _unstacked(found: Tensor, share: int) -> Tensor:
    return found if share == 1 else found.unflatten(2, (share, -1)).flatten(1, 2)


def _by_products(like: Tensor) -> bool:
    """Whether attention is three products: the gradient of torch's fused one takes a CPU seven times as long in bf16."""
    in_bf16 = torch.is_autocast_enabled("cpu") or like.dtype == torch.bfloat16
    return in_bf16 and like.device.type == "cpu" and torch.is_grad_enabled()


def _masks(trees: Trees, prefixes: Prefixes | None, share: int, like: Tensor) -> dict[str, Tensor | None]:
    """Added to the scores, 0 or -inf.

    "trunk": (G or 1, 1, share * P, L + P), None: causal; "branch": (R, 1, share * S, L + P + S).
    """
    _, width, branch_width = trees.sizes
    arange = partial(torch.arange, device=like.device)
    groups, before = len(trees.trunk_lengths), 0 if prefixes is None else prefixes.longest()
    in_prefix = arange(before).expand(groups, -1) >= 0
    if prefixes is not None and prefixes.of is not None:  # shorter ones are filled up on the left
        in_prefix = arange(before) >= before - prefixes.own(prefixes.lengths, groups)[:, None]
    causal = arange(width) <= arange(width)[:, None]
    trunk = None
    if share > 1 or (prefixes is not None and not prefixes.infix) or _by_products(like):
        own = in_prefix if prefixes is not None and prefixes.of is not None else in_prefix[:1]  # (G or 1, L)
        own = own[:, :0] if prefixes is not None and prefixes.infix else own
        trunk = _side_by_side(own, causal, share, like)
    in_trunk = torch.cat([in_prefix, arange(width) < trees.trunk_lengths[:, None]], 1)  # (G, L + P)
    causal = arange(branch_width) <= arange(branch_width)[:, None]
    return {"trunk": trunk, "branch": _side_by_side(in_trunk[trees.trunk_of], causal, share, like)}


def _side_by_side(all_see: Tensor, causal: Tensor, share: int, like: Tensor) -> Tensor:
    """(rows, 1, share * width, M + width): keys (rows, M) that all queries of a row see or do not, then (width, width) of their own."""
    rows, width = len(all_see), len(causal)
    allowed = torch.cat([all_see[:, None].expand(-1, width, -1), causal.expand(rows, -1, -1)], 2)
    return _added(allowed.repeat(1, share, 1)[:, None], like)


def _added(allowed: Tensor, like: Tensor) -> Tensor:
    return torch.zeros(allowed.shape, dtype=like.dtype, device=like.device).masked_fill(~allowed, -torch.inf)
