"""What an adapted language model writes: greedy and beam search and sampling, batched, each prompt read once for all its beams.

`transformers.generate` reads a prompt once for each beam, keeps a copy of its keys for each, and copies all keys when beams change
places. Here one block of keys and values holds, for each prompt, its tokens and then the beams' tokens step by step. Nothing in it ever
moves: which of these a beam descends from is a mask of attention. The beams of a prompt stand in one row as its queries, so attention
reads the prompt's keys once, and grouped queries read them without a copy. Prompts that are done leave the batch.

The search is that of `transformers` (`early_stopping=False`): a hypothesis of n tokens, its end included, is worth log P / n^penalty, so a penalty
above 0 favours long ones; it ends when no open beam is worth more at its present length than the worst of `beam` finished ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from transformers import AttentionInterface, DynamicCache, PreTrainedModel

from core.config import Config
from core.errors import InputError, NotFiniteError
from data.batching import padded
from lightning_modules.decoding.top_k import top_k
from lightning_modules.prefix_tuning.prefix import Prompting, check_output_layer, transformers_generate
from lightning_modules.shared_prompt import attention as packing

ATTENTION = "shared_prompt"
NEVER = -float("inf")  # the score of a hypothesis that is none


class GenerateConfig(Config):
    """How to write. A beam of 1 is greedy search."""

    method: Literal["beam", "sample"] = "beam"
    beam_size: int = Field(default=1, ge=1)
    length_penalty: float = Field(
        default=1.0, ge=-5, le=5
    )  # the exponent of the length; 0 ranks by log probability alone
    max_new_tokens: int = Field(default=64, ge=1)
    temperature: float = Field(default=1.0, ge=1e-6)  # method "sample"
    top_p: float = Field(default=1.0, gt=0, le=1)  # method "sample": draw from the fewest tokens of this probability
    seed: int = Field(default=0, ge=0)  # method "sample"


class SharedCache:
    """Keys and values of a batch of B prompts (S positions, padding included) and of their W beams' tokens, at every layer."""

    def __init__(
        self, base: PreTrainedModel, adapter: Prompting, prompts: Sequence[list[int]], beam: int, steps: int
    ) -> None:
        text = padded([list(p) for p in prompts], left=True).to(base.device)
        lengths = torch.tensor([[len(p)] for p in prompts], device=base.device)
        inputs = adapter.inputs(
            base, text, (torch.arange(text.shape[1], device=base.device) >= text.shape[1] - lengths).long(), 1
        )
        past, mask = inputs.get("past_key_values") or DynamicCache(), inputs["attention_mask"]
        read = past.get_seq_length()
        states = base.base_model(
            **{name: inputs[name][:, read:] for name in ("input_ids", "inputs_embeds") if name in inputs},
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, read:],
            past_key_values=past,
            use_cache=True,
        ).last_hidden_state
        self.base, self.beam_size, self.used, self.positions = base, beam, mask.shape[1], mask.sum(1)
        self.last = states[:, -1]  # (B, d) what predicts the first token
        read_layers: list[Any] = past.layers
        rows, heads, _, size = read_layers[0].keys.shape
        # (layers, 2, B, heads, S + W * steps, d)
        self.block = states.new_empty(len(read_layers), 2, rows, heads, self.used + beam * steps, size)
        for own, layer in zip(self.block, read_layers, strict=True):
            own[0, :, :, : self.used], own[1, :, :, : self.used] = layer.keys, layer.values
        # (B, W, positions) what each beam sees
        self.seen = mask.bool()[:, None].expand(-1, beam, -1)
        self.added = torch.empty(0)  # the same for attention, made at every step

    def step(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """(B, W, d) states after `tokens` (B, W) that continue the beams `parents` (B, W)."""
        own = torch.eye(self.beam_size, dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
        descent = self.seen.gather(1, parents[:, :, None].expand(-1, -1, self.seen.shape[2]))
        self.seen = torch.cat([descent, own], 2)
        self.added = torch.zeros(self.seen.shape, dtype=self.block.dtype, device=tokens.device).masked_fill_(
            ~self.seen, -torch.inf
        )
        positions = self.positions[:, None].expand(-1, self.beam_size)
        found = self.base.base_model(input_ids=tokens, position_ids=positions, reading=self, use_cache=False)
        self.positions, self.used = self.positions + 1, self.used + self.beam_size
        states: Tensor = found.last_hidden_state
        return states

    def keep(self, rows: Tensor) -> None:
        """Drops all prompts but `rows`."""
        self.block, self.seen, self.positions = self.block[:, :, rows], self.seen[rows], self.positions[rows]


def shared_prompt_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    reading: SharedCache | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of the beams (B, H, W, d) over their prompt and their own past, in the form that `AttentionInterface` calls."""
    assert reading is not None
    keys, values = reading.block[int(module.layer_idx)]  # type: ignore[arg-type]
    end, share = reading.used + reading.beam_size, query.shape[1] // key.shape[1]
    keys[:, :, reading.used : end], values[:, :, reading.used : end] = key, value
    found = F.scaled_dot_product_attention(
        query.unflatten(1, (-1, share)).flatten(2, 3),
        keys[:, :, :end],
        values[:, :, :end],
        reading.added.repeat(1, share, 1)[:, None],
        scale=scaling,
    )
    return found.unflatten(2, (share, -1)).flatten(1, 2).transpose(1, 2), None


@torch.inference_mode()
def generate(
    base: PreTrainedModel,
    adapter: Prompting,
    prompts: Sequence[list[int]],
    end: int,
    settings: GenerateConfig,
    *,
    batch: int = 16,
    rows: Sequence[int] | None = None,
) -> list[list[int]]:
    """Continuations of prompts of token ids, up to the token `end`; no prompt may be empty.

    Prompts of like length are read together, `batch` at once; what one gets does not depend on the others (to the rounding of matrix
    products). Samples belong to (seed, `rows`), by default a prompt's place. A base that cannot share a
    prompt's keys, or makes its scores otherwise than by a linear layer, is left to `transformers.generate`.
    """
    numbers = list(range(len(prompts)) if rows is None else rows)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        texts = [prompts[i] for i in chosen]
        for i, tokens in zip(
            chosen,
            _batch(base, adapter.of_rows(chosen), texts, end, settings, [numbers[i] for i in chosen]),
            strict=True,
        ):
            found[i] = tokens
    return found


def _batch(
    base: PreTrainedModel,
    adapter: Prompting,
    prompts: list[list[int]],
    end: int,
    settings: GenerateConfig,
    rows: list[int],
) -> list[list[int]]:
    if not _can_share(base):
        if settings.method == "sample":
            raise InputError(
                f"{base.config.model_type}: its attention or its scores are its own; only greedy and beam search are possible."
            )
        options = (
            {"num_beams": settings.beam_size, "length_penalty": settings.length_penalty}
            if settings.beam_size > 1
            else {}
        )
        found: list[list[int]] = [[] for _ in prompts]
        for length in {len(p) for p in prompts}:  # with no padding: a window of attention would count it
            same = [i for i, p in enumerate(prompts) if len(p) == length]
            texts = [prompts[i] for i in same]
            written = transformers_generate(base, adapter.of_rows(same), texts, end, settings.max_new_tokens, **options)
            for i, tokens in zip(same, written, strict=True):
                found[i] = tokens
        return found
    beam = settings.beam_size if settings.method == "beam" else 1
    if 2 * beam > (types := base.get_output_embeddings().weight.shape[0]):
        raise InputError(
            f"a beam of {beam} is too wide: the base has {types} tokens, and the search needs two for each hypothesis."
        )
    cache = SharedCache(base, adapter, prompts, beam, settings.max_new_tokens)
    with _sharing(base):
        return _search(cache, end, settings) if beam > 1 else _draw(cache, end, settings, rows)


_shares: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def _can_share(base: PreTrainedModel) -> bool:
    """Whether all attention is full and goes through the interface, and scores are linear; gives the base its ordinary attention."""
    packing.release(base)
    if base not in _shares:
        try:
            check_output_layer(base)
            packing.release(packing.prepare(base))
            _shares[base] = True
        except NotFiniteError:
            raise
        except InputError:
            _shares[base] = False
    return _shares[base]


@contextmanager
def _sharing(base: PreTrainedModel) -> Iterator[None]:
    AttentionInterface.register(ATTENTION, shared_prompt_attention)
    before = base.config._attn_implementation
    base.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        base.set_attn_implementation(before)


def _draw(cache: SharedCache, end: int, settings: GenerateConfig, rows: list[int]) -> list[list[int]]:
    """Greedy search, or one sample for each prompt from random numbers of its own."""
    uniforms = None
    if settings.method == "sample":
        draws = [np.random.default_rng([settings.seed, row]).random(settings.max_new_tokens) for row in rows]
        uniforms = torch.from_numpy(np.stack(draws)).to(cache.last.device)
    written: list[list[int]] = [[] for _ in rows]
    alive, states = torch.arange(len(rows), device=cache.last.device), cache.last
    for t in range(settings.max_new_tokens):
        logits = cache.base.get_output_embeddings()(states).float()
        best = logits.max(-1)
        _check_finite(best.values)
        tokens = best.indices if uniforms is None else _sampled(logits, uniforms[alive, t], settings)
        going = (tokens != end).nonzero()[:, 0]
        if len(going) < len(alive):
            alive, tokens = alive[going], tokens[going]
            cache.keep(going)
        for row, token in zip(alive.tolist(), tokens.tolist(), strict=True):
            written[row].append(token)
        if not len(alive) or t + 1 == settings.max_new_tokens:
            break
        states = cache.step(tokens[:, None], torch.zeros_like(tokens[:, None]))[:, 0]
    return written


def _check_finite(values: Tensor) -> None:
    """Refuses a damaged model by the greatest logit or the sum of each row, which a NaN or an infinity makes not finite."""
    if not values.isfinite().all():
        raise NotFiniteError


def _sampled(logits: Tensor, uniforms: Tensor, settings: GenerateConfig) -> Tensor:
    """(B,) tokens at which the distribution, most probable first, reaches `uniforms` (B,) of [0, 1)."""
    p, order = (logits / settings.temperature).softmax(-1).double().sort(descending=True, stable=True)
    reached = p.cumsum(-1)
    if settings.top_p < 1:  # a token is in while those before it have less than top_p together
        p = p.masked_fill(reached - p >= settings.top_p, 0)
        reached = p.cumsum(-1)
    place = torch.searchsorted(reached, uniforms[:, None] * reached[:, -1:], right=True)
    return order.gather(1, place.clamp(max=order.shape[1] - 1))[:, 0]


def _search(cache: SharedCache, end: int, settings: GenerateConfig) -> list[list[int]]:
    """Beam search; of each prompt the best hypothesis, without its end."""
    beam, device, count = settings.beam_size, cache.last.device, len(cache.last)
    best: list[list[int]] = [[] for _ in range(count)]
    alive = torch.arange(count, device=device)
    finished = torch.full((count, beam), NEVER, device=device)  # scores of finished hypotheses, best first
    history = torch.empty(count, beam, 0, dtype=torch.long, device=device)  # tokens of the open ones
    log_p, parents, tokens = _continuations(cache, cache.last[:, None], torch.zeros(count, 1, device=device), beam)
    for t in range(settings.max_new_tokens):
        ended = (tokens == end) | (t + 1 == settings.max_new_tokens)
        worth = (log_p[:, :beam] / (t + 1) ** settings.length_penalty).masked_fill(~ended[:, :beam], NEVER)
        better = worth.max(1)
        for i in (better.values > finished[:, 0]).nonzero()[:, 0].tolist():
            place = int(better.indices[i])
            path = [*history[i, parents[i, place]].tolist(), int(tokens[i, place])]
            best[int(alive[i])] = path[: path.index(end)] if end in path else path
        finished = torch.cat([finished, worth], 1).topk(beam).values
        if t + 1 == settings.max_new_tokens:
            break
        # The first `beam` candidates that go on: there are twice as many, and each beam ends at most once.
        going = ended.long().sort(stable=True).indices[:, :beam]
        log_p, parents, tokens = (x.gather(1, going) for x in (log_p, parents, tokens))
        history = torch.cat([history.gather(1, parents[:, :, None].expand(-1, -1, t)), tokens[:, :, None]], 2)
        can_improve = (finished[:, -1] == NEVER) | (log_p[:, 0] / (t + 1) ** settings.length_penalty > finished[:, -1])
        if not can_improve.any():
            break
        if not can_improve.all():
            rows = can_improve.nonzero()[:, 0]
            alive, finished, history, log_p, parents, tokens = (
                x[rows] for x in (alive, finished, history, log_p, parents, tokens)
            )
            cache.keep(rows)
        log_p, parents, tokens = _continuations(cache, cache.step(tokens, parents), log_p, beam)
    return best


def _continuations(cache: SharedCache, states: Tensor, scores: Tensor, beam: int) -> tuple[Tensor, Tensor, Tensor]:
    """The 2 * beam best continuations of open beams (B, W) with `scores`: log probabilities, beams, tokens, each (B, 2 * beam)."""
    logits = cache.base.get_output_embeddings()(states).float()
    types = logits.shape[-1]
    totals = logits.logsumexp(-1, keepdim=True)
    _check_finite(totals)
    added = scores[:, :, None] - totals
    log_p, places = top_k(logits, added, min(2 * beam, scores.shape[1] * types))
    return log_p, places // types, places % types
