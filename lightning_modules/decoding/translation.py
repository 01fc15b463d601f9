"""Decoding with any translator, alone or in an ensemble: translating, scoring sentence pairs, aligning them.

Everything is batched; in beam search sentences that are done leave the batch. What a sentence gets does not depend on the others in its
batch, but for the rounding of matrix multiplications.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from data.batching import padded
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.decoding.ensemble import Ensemble, log_softmax
from lightning_modules.decoding.hypotheses import DecodingConfig, Hypothesis, coverage_penalty, length_penalty
from lightning_modules.decoding.sampling import sample
from lightning_modules.decoding.translator_search import beam_search
from lightning_modules.translators.base import Translator

__all__ = [
    "DecodingConfig",
    "Ensemble",
    "Hypothesis",
    "alignment",
    "beam_search",
    "coverage_penalty",
    "length_penalty",
    "log_probabilities",
    "sample",
    "translate",
]

# What is in memory at one time, each with its scores over the vocabulary:
HYPOTHESES = 1280  # of one batch
POSITIONS = 1024  # of given targets


def translate(
    model: Translator | Ensemble, sources: list[list[int]], config: DecodingConfig
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """Decodes sentences of token ids, longest batch first; yields (index in `sources`, hypotheses, best first) batch by batch.

    An empty source gives one empty hypothesis. Raises InputError when the model cannot read a source or do what `config` asks for.
    """
    ensemble = Ensemble.of(model)
    decode = beam_search if config.method == "beam" else sample
    with ensemble.evaluating():
        limit = max(1, HYPOTHESES // (config.beam_size if config.method == "beam" else config.n_best))
        for batch in _batches([len(s) + 1 for s in sources], config.batch_tokens, limit):
            yield from ((i, [Hypothesis([], 0.0)]) for i in batch if not sources[i])
            not_empty = [i for i in batch if sources[i]]
            if not_empty:
                source = padded([[*sources[i], END] for i in not_empty]).to(ensemble.device)
                yield from zip(not_empty, decode(ensemble, source, config), strict=True)


def log_probabilities(
    model: Translator | Ensemble, sources: list[list[int]], targets: list[list[int]], batch_tokens: int = 2048
) -> list[float]:
    """log P(target | source) of pairs of token ids, the end token included. It rescores an n-best list.

    With `beam_alpha` 0 a hypothesis' score is the same number, computed step by step. Here all positions are computed at once.
    """
    ensemble = Ensemble.of(model)
    log_p = [0.0] * len(sources)
    sizes = [max(len(s), len(t)) + 1 for s, t in zip(sources, targets, strict=True)]
    with ensemble.evaluating(), torch.inference_mode():
        for batch in _batches(sizes, batch_tokens):
            source = padded([[*sources[i], END] for i in batch]).to(ensemble.device)
            target = padded([[BEGIN, *targets[i], END] for i in batch]).to(ensemble.device)
            for i, value in zip(batch, _log_probability(ensemble, source, target).tolist(), strict=True):
                log_p[i] = value
    return log_p


def _log_probability(ensemble: Ensemble, source: Tensor, target: Tensor) -> Tensor:
    """(B,) log P of target (B, 1 + T), which starts with the begin token, given source (B, S)."""
    next_tokens = target[:, 1:]
    real = next_tokens != PAD
    tokens = next_tokens[real][:, None]
    members = []
    for model in ensemble.models:
        chunks = zip(model(source, target[:, :-1])[real].split(POSITIONS), tokens.split(POSITIONS), strict=True)
        members.append(torch.cat([log_softmax(model, features).gather(1, chunk) for features, chunk in chunks]))
    log_p = members[0].new_zeros(real.shape)
    log_p[real] = ensemble.mean(members).squeeze(1)
    return log_p.sum(1)


@torch.inference_mode()
def alignment(model: Translator | Ensemble, source: Tensor, target: Tensor) -> Tensor | None:
    """(B, T, S) attention over the source (B, S) while the decoder reads `target` (B, 1 + T), which starts with the begin token.

    None for a model that has no attention.
    """
    ensemble = Ensemble.of(model)
    with ensemble.evaluating():
        memories, states = ensemble.begin(source, 1)
        steps = []
        for previous in target[:, :-1].unbind(1):
            _, attention, states = ensemble.step(memories, states, previous)
            if attention is None:
                return None
            steps.append(attention.mean(1))
    return torch.stack(steps, 1)


def _batches(sizes: list[int], budget: int, limit: int | None = None) -> Iterable[list[int]]:
    """Indices of sentences with `sizes` tokens, longest first, in batches of at most `budget` padded tokens and `limit` sentences.

    A sentence of more tokens than the budget is a batch of its own.
    """
    batch: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if batch and (sizes[batch[0]] * (len(batch) + 1) > budget or len(batch) == limit):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
