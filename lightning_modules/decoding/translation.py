"""The one decoding path of all translators, alone or as an ensemble: translating, scoring given pairs, alignments of them.

Everything is batched; in beam search sentences that are done leave the batch. What a sentence gets does not depend on the others in its
batch (to the rounding of matrix products).
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

HYPOTHESES = 1280  # of one batch: their scores over the vocabulary exist at one time
POSITIONS = 1024  # target positions whose scores over the vocabulary exist at one time


def translate(
    model: Translator | Ensemble, sources: list[list[int]], settings: DecodingConfig
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """Decodes sentences of token ids, longest batch first; yields (index in `sources`, hypotheses, best first) as they come.

    An empty source gives one empty hypothesis. Raises InputError when the model cannot read a source or do what is wanted.
    """
    ensemble = Ensemble.of(model)
    decode = beam_search if settings.method == "beam" else sample
    with ensemble.evaluating():
        most = max(1, HYPOTHESES // (settings.beam_size if settings.method == "beam" else settings.n_best))
        for batch in _batches([len(s) + 1 for s in sources], settings.batch_tokens, most):
            full = [i for i in batch if sources[i]]
            yield from ((i, [Hypothesis([], 0.0)]) for i in batch if not sources[i])
            if full:
                source = padded([[*sources[i], END] for i in full]).to(ensemble.device)
                yield from zip(full, decode(ensemble, source, settings), strict=True)


def log_probabilities(
    model: Translator | Ensemble, sources: list[list[int]], targets: list[list[int]], batch_tokens: int = 2048
) -> list[float]:
    """log P(target | source) of given pairs of token ids, the end token included: what rescores an n-best list.

    With `beam_alpha` 0 a hypothesis' score is the same number, found step by step; here all positions go at once.
    """
    ensemble = Ensemble.of(model)
    found = [0.0] * len(sources)
    sizes = [max(len(s), len(t)) + 1 for s, t in zip(sources, targets, strict=True)]
    with ensemble.evaluating(), torch.inference_mode():
        for batch in _batches(sizes, batch_tokens):
            source = padded([[*sources[i], END] for i in batch]).to(ensemble.device)
            target = padded([[BEGIN, *targets[i], END] for i in batch]).to(ensemble.device)
            for i, value in zip(batch, _log_probability(ensemble, source, target).tolist(), strict=True):
                found[i] = value
    return found


def _log_probability(ensemble: Ensemble, source: Tensor, target: Tensor) -> Tensor:
    """(B,) log P of target (B, 1 + T), which starts with the begin token, given source (B, S)."""
    next_tokens = target[:, 1:]
    real = next_tokens != PAD
    wanted = next_tokens[real][:, None]
    members = []
    for model in ensemble.models:
        parts = zip(model(source, target[:, :-1])[real].split(POSITIONS), wanted.split(POSITIONS), strict=True)
        members.append(torch.cat([log_softmax(model, features).gather(1, token) for features, token in parts]))
    log_p = members[0].new_zeros(real.shape)
    log_p[real] = ensemble.mean(members).squeeze(1)
    return log_p.sum(1)


@torch.inference_mode()
def alignment(model: Translator | Ensemble, source: Tensor, target: Tensor) -> Tensor | None:
    """(B, T, S) attention over the source while the decoder is given `target` (B, 1 + T), which starts with the begin token.

    None of a model that has no attention.
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


def _batches(sizes: list[int], budget: int, most: int | None = None) -> Iterable[list[int]]:
    """Indices of tokens' counts, longest first, in batches of at most `budget` padded tokens and `most` sentences, or of one."""
    batch: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if batch and (sizes[batch[0]] * (len(batch) + 1) > budget or len(batch) == most):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
