"""What an adapted language model writes: greedy search, beam search and sampling, in batches.

Each prompt is read once for all its beams (`shared_cache.py`). The beam search is that of `transformers` with `early_stopping=False`.
A hypothesis of n tokens, its end token included, has the score log P / n^length_penalty. So a penalty above 0 favours long ones.
"""

from collections.abc import Sequence
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from core.config import Config
from core.errors import InputError, NotFiniteError
from lightning_modules.decoding.beam_search import NextTokens, search
from lightning_modules.generation.shared_cache import SharedCache, shared_cache_attention
from lightning_modules.generation.transformers_generate import transformers_generate
from lightning_modules.prefix_tuning.base_model import check_output_layer
from lightning_modules.prefix_tuning.prefix import BatchAdapter
from lightning_modules.shared_prompt.reading import check_shared_prompts, ordinary_attention


class GenerateConfig(Config):
    """How to generate. A beam of 1 is greedy search."""

    method: Literal["beam", "sample"] = "beam"
    """`beam`: beam search. `sample`: draw from the model's distribution."""
    beam_size: int = Field(default=1, ge=1)
    """Width of the beam; 1 is greedy search."""
    length_penalty: float = Field(default=1.0, ge=-5, le=5)
    """log P / length^length_penalty ranks hypotheses, as in `transformers`: above 0 it favours longer ones. 0: log P alone."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Maximum number of new tokens."""
    temperature: float = Field(default=1.0, ge=1e-6)
    """Only with `sample`: the logits are divided by it; below 1 it sharpens the distribution."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Only with `sample`: draw from the fewest tokens that have this probability together (Holtzman et al. 2020)."""
    seed: int = Field(default=0, ge=0)
    """Only with `sample`: seed of the draws."""


@torch.inference_mode()
def generate(
    base: PreTrainedModel,
    adapter: BatchAdapter,
    prompts: Sequence[list[int]],
    ends: Sequence[int],
    config: GenerateConfig,
    *,
    batch: int = 16,
    rows: Sequence[int] | None = None,
) -> list[list[int]]:
    """Continuations of prompts of token ids, up to the first token of `ends`, which they leave out.

    Prompts of like length are read together. What a prompt gets does not depend on the others in its batch, but for the rounding of
    matrix multiplications. A base that cannot share a prompt's keys, or whose scores come from no linear layer, is left to
    `transformers.generate`.

    Args:
        prompts: none may be empty; `adapter` has its rows in their order.
        batch: prompts that are read at once.
        rows: numbers of the prompts for the seeds of samples, by default their places.

    Raises InputError when the base cannot do what the config asks for, or its scores are not finite.
    """
    numbers = list(range(len(prompts)) if rows is None else rows)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    continuations: list[list[int]] = [[] for _ in prompts]
    generate_batch = _with_shared_cache if _can_share(base) else _with_transformers
    with ordinary_attention(base):  # training may hold that of shared prompts
        for start in range(0, len(order), batch):
            places = order[start : start + batch]
            generated = generate_batch(
                base, adapter.of_rows(places), [prompts[i] for i in places], ends, config, [numbers[i] for i in places]
            )
            for i, tokens in zip(places, generated, strict=True):
                continuations[i] = tokens
    return continuations


def _with_shared_cache(
    base: PreTrainedModel,
    adapter: BatchAdapter,
    prompts: list[list[int]],
    ends: Sequence[int],
    config: GenerateConfig,
    rows: list[int],
) -> list[list[int]]:
    """Continuations of one batch. Samples belong to (seed, row)."""
    beam_size = config.beam_size if config.method == "beam" else 1
    if 2 * beam_size > (vocab_size := base.get_output_embeddings().weight.shape[0]):
        raise InputError(
            f"a beam of {beam_size} is too wide: the base has {vocab_size} tokens, and the search needs two for each hypothesis."
        )
    cache = SharedCache(base, adapter, prompts, beam_size, config.max_new_tokens)
    with shared_cache_attention(base):
        return _search(cache, ends, config) if beam_size > 1 else _draw(cache, ends, config, rows)


def _with_transformers(
    base: PreTrainedModel,
    adapter: BatchAdapter,
    prompts: list[list[int]],
    ends: Sequence[int],
    config: GenerateConfig,
    rows: list[int],
) -> list[list[int]]:
    """The same by `transformers.generate`, prompts of one length at a time: a window of attention would count padding."""
    if config.method == "sample":
        raise InputError(
            f"{base.config.model_type}: its attention or its scores are its own; only greedy and beam search are possible."
        )
    options = {"num_beams": config.beam_size, "length_penalty": config.length_penalty} if config.beam_size > 1 else {}
    continuations: list[list[int]] = [[] for _ in prompts]
    for length in {len(p) for p in prompts}:
        places = [i for i, p in enumerate(prompts) if len(p) == length]
        texts = [prompts[i] for i in places]
        generated = transformers_generate(base, adapter.of_rows(places), texts, ends, config.max_new_tokens, **options)
        for i, tokens in zip(places, generated, strict=True):
            continuations[i] = tokens
    return continuations


_sharing: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()  # bases that were tried


def _can_share(base: PreTrainedModel) -> bool:
    """Whether all attention is full and goes through the interface, and scores are linear."""
    if base not in _sharing:
        try:
            check_output_layer(base)
            check_shared_prompts(base)
            _sharing[base] = True
        except NotFiniteError:
            raise
        except InputError:
            _sharing[base] = False
    return _sharing[base]


def _check_finite(values: Tensor) -> None:
    """Refuses a damaged model by the greatest logit or the sum of each row, which a NaN or an infinity makes not finite."""
    if not values.isfinite().all():
        raise NotFiniteError


# Greedy search and sampling


def _draw(cache: SharedCache, ends: Sequence[int], config: GenerateConfig, rows: list[int]) -> list[list[int]]:
    """Greedy search, or one sample for each prompt from random numbers of its own."""
    device = cache.last.device
    ending = torch.tensor(ends, device=device)
    uniforms = None
    if config.method == "sample":
        draws = [np.random.default_rng([config.seed, row]).random(config.max_new_tokens) for row in rows]
        uniforms = torch.from_numpy(np.stack(draws)).to(device)
    continuations: list[list[int]] = [[] for _ in rows]
    prompts, states = torch.arange(len(rows), device=device), cache.last  # those that have not ended
    for t in range(config.max_new_tokens):
        logits = cache.base.get_output_embeddings()(states).float()
        best = logits.max(-1)
        _check_finite(best.values)
        tokens = best.indices if uniforms is None else _sampled(logits, uniforms[prompts, t], config)
        unfinished = torch.isin(tokens, ending, invert=True).nonzero()[:, 0]
        if len(unfinished) < len(prompts):
            prompts, tokens = prompts[unfinished], tokens[unfinished]
            cache.keep(unfinished)
        for prompt, token in zip(prompts.tolist(), tokens.tolist(), strict=True):
            continuations[prompt].append(token)
        if not len(prompts) or t + 1 == config.max_new_tokens:
            break
        states = cache.step(tokens[:, None], torch.zeros_like(tokens[:, None]))[:, 0]
    return continuations


def _sampled(logits: Tensor, uniforms: Tensor, config: GenerateConfig) -> Tensor:
    """(B,) tokens at which the distribution of logits (B, V), most probable first, reaches `uniforms` (B,) of [0, 1)."""
    p, order = (logits / config.temperature).softmax(-1).double().sort(descending=True, stable=True)
    reached = p.cumsum(-1)
    if config.top_p < 1:  # a token is in while those before it have less than top_p together
        p = p.masked_fill(reached - p >= config.top_p, 0)
        reached = p.cumsum(-1)
    place = torch.searchsorted(reached, uniforms[:, None] * reached[:, -1:], right=True)
    return order.gather(1, place.clamp(max=order.shape[1] - 1))[:, 0]


# Beam search


def _search(cache: SharedCache, ends: Sequence[int], config: GenerateConfig) -> list[list[int]]:
    """The best hypothesis of each prompt, without its end token; of equals, the first that finished."""
    device, count = cache.last.device, len(cache.last)
    rule = EarlyStoppingFalse(config.beam_size, config.length_penalty, count, device)
    limits = torch.full((count,), config.max_new_tokens, device=device)
    finished = search(
        CachedDecoder(cache),
        rule,
        limits,
        beam_size=config.beam_size,
        end=torch.tensor(ends, device=device),
        must_end=False,
    )
    scores = torch.cat(rule.finished).tolist()
    best: dict[int, int] = {}
    for i, prompt in enumerate(finished.texts.tolist()):
        if prompt not in best or scores[i] > scores[best[prompt]]:
            best[prompt] = i
    texts = [finished.tokens[best[prompt], : finished.lengths[best[prompt]]].tolist() for prompt in range(count)]
    return [text[:-1] if text[-1] in ends else text for text in texts]


class CachedDecoder:
    """The `Decoder` of a language model over a `SharedCache`."""

    def __init__(self, cache: SharedCache) -> None:
        self.cache = cache
        self.hypotheses = 1  # of each prompt

    def start(self) -> NextTokens:
        return self._predict(self.cache.last[:, None])

    def advance(self, tokens: Tensor, rows: Tensor, kept: Tensor | None) -> NextTokens:
        parents, self.hypotheses = rows % self.hypotheses, tokens.shape[1]
        if kept is not None:
            self.cache.keep(kept)
        return self._predict(self.cache.step(tokens, parents))

    def _predict(self, states: Tensor) -> NextTokens:
        logits = self.cache.base.get_output_embeddings()(states).float()
        totals = logits.logsumexp(-1, keepdim=True)
        _check_finite(totals)
        return NextTokens(logits, -totals)


class EarlyStoppingFalse:
    """`early_stopping=False` of `transformers`.

    A prompt is done when `beam_size` hypotheses have finished, and no open one, at its present length, has a higher score than
    the worst of the `beam_size` best.
    """

    def __init__(self, beam_size: int, length_penalty: float, prompts: int, device: torch.device) -> None:
        self.length_penalty = length_penalty
        self.best = torch.full(
            (prompts, beam_size), -torch.inf, device=device
        )  # scores of the best that finished, best first
        self.finished: list[Tensor] = []  # scores of all that finished, in their order

    def score(self, log_p: Tensor, length: int) -> Tensor:
        """log P / length^length_penalty."""
        return log_p / length**self.length_penalty

    def finish(self, ended: Tensor, log_p: Tensor, length: int) -> Tensor:
        scores = self.score(log_p, length)
        self.finished.append(scores[ended])
        self.best = torch.cat([self.best, scores.masked_fill(~ended, -torch.inf)], 1).topk(self.best.shape[1]).values
        return ended

    def done(self, log_p: Tensor, length: int) -> Tensor:
        worst = self.best[:, -1]
        return worst.isfinite() & (self.score(log_p[:, 0], length) <= worst)

    def keep(self, texts: Tensor) -> None:
        self.best = self.best[texts]
