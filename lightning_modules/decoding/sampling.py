"""Ancestral sampling from a translator."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from core.errors import NotFiniteError
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.decoding.ensemble import Ensemble
from lightning_modules.decoding.hypotheses import DecodingConfig, Hypothesis
from lightning_modules.translators.base import Translator


@torch.no_grad()
def sample(model: Translator | Ensemble, source: Tensor, settings: DecodingConfig) -> list[list[Hypothesis]]:
    """`n_best` ancestral samples for each sentence of a padded batch (B, S), in the order drawn; scores are log P(Y|X).

    Random numbers belong to (seed, sentence, sample), so a sentence's samples are the same in any batch. Raises InputError when
    scores are not finite.
    """
    ensemble = Ensemble.of(model)
    with ensemble.products_in(settings.precision):
        return _sampled(ensemble, source, settings)


def _sampled(ensemble: Ensemble, source: Tensor, settings: DecodingConfig) -> list[list[Hypothesis]]:
    count = settings.n_best
    sizes = (source != PAD).sum(1)
    limits = (sizes - 1 + settings.extra_tokens).repeat_interleave(count)
    uniforms = torch.from_numpy(_uniforms(source, settings)).to(source.device)  # (B * count, longest)
    memories, states = ensemble.begin(source, count)
    rows = len(limits)
    previous = source.new_full((rows,), BEGIN)
    scores, ended = torch.zeros(rows, device=source.device), torch.zeros(rows, dtype=torch.bool, device=source.device)
    chosen: list[Tensor] = []
    attentions: list[Tensor] = []
    for t in range(uniforms.shape[1]):
        log_p, attention, states = ensemble.step(memories, states, previous)
        distribution = torch.softmax(log_p / settings.temperature, -1).double().cumsum(-1)
        drawn = (
            torch.searchsorted(distribution, uniforms[:, t, None] * distribution[:, -1:])
            .squeeze(1)
            .clamp_(max=log_p.shape[-1] - 1)
        )
        previous = torch.where(ended, PAD, torch.where(limits <= t, END, drawn))
        scores += log_p.gather(1, previous[:, None]).squeeze(1).masked_fill(ended, 0)
        chosen.append(previous)
        if settings.alignments and attention is not None:
            attentions.append(attention)
        ended |= previous == END
        if ended.all():
            break
    if not scores.isfinite().all():
        raise NotFiniteError
    paths = [[p for p in path if p not in (END, PAD)] for path in torch.stack(chosen, 1).tolist()]
    seen = torch.stack(attentions, 1).float().cpu().numpy() if attentions else None  # (B * count, T + 1, A, S)
    hypotheses = []
    for i, (path, log_p_) in enumerate(zip(paths, scores.tolist(), strict=True)):
        own = seen[i, : len(path) + 1, :, : int(sizes[i // count])] if seen is not None else None
        aligned = ensemble.alignment(own, settings.aligned_step) if own is not None else None
        hypotheses.append(Hypothesis(path, log_p_, own.mean(1) if own is not None else None, aligned))
    return [hypotheses[i : i + count] for i in range(0, rows, count)]


def _uniforms(source: Tensor, settings: DecodingConfig) -> np.ndarray:
    longest = source.shape[1] + settings.extra_tokens
    draws = []
    for row in source.cpu().numpy():
        sentence = int.from_bytes(hashlib.blake2b(row[row != PAD].tobytes(), digest_size=8).digest(), "big")
        draws += [np.random.default_rng([settings.seed, sentence, i]).random(longest) for i in range(settings.n_best)]
    return np.stack(draws)
