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
def sample(model: Translator | Ensemble, source: Tensor, config: DecodingConfig) -> list[list[Hypothesis]]:
    """`n_best` ancestral samples for each sentence of a padded batch (B, S), in the order drawn; scores are log P(Y|X).

    Random numbers belong to (seed, sentence, sample), so a sentence's samples are the same in any batch.

    Raises InputError when scores are not finite.
    """
    ensemble = Ensemble.of(model)
    with ensemble.autocast(config.precision):
        return _sampled(ensemble, source, config)


def _sampled(ensemble: Ensemble, source: Tensor, config: DecodingConfig) -> list[list[Hypothesis]]:
    samples = config.n_best
    sizes = (source != PAD).sum(1)
    limits = (sizes - 1 + config.extra_tokens).repeat_interleave(samples)
    uniforms = torch.from_numpy(_uniforms(source, config)).to(source.device)  # (R, longest), R = B * samples
    memories, states = ensemble.begin(source, samples)
    rows = len(limits)
    previous = source.new_full((rows,), BEGIN)
    log_p, ended = torch.zeros(rows, device=source.device), torch.zeros(rows, dtype=torch.bool, device=source.device)
    steps: list[Tensor] = []  # of each step: (R,) its tokens
    attentions: list[Tensor] = []  # (R, A, S)
    for t in range(uniforms.shape[1]):
        next_log_p, attention, states = ensemble.step(memories, states, previous)
        cumulative = torch.softmax(next_log_p / config.temperature, -1).double().cumsum(-1)
        drawn = torch.searchsorted(cumulative, uniforms[:, t, None] * cumulative[:, -1:]).squeeze(1)
        drawn = drawn.clamp_(max=next_log_p.shape[-1] - 1)
        previous = torch.where(ended, PAD, torch.where(limits <= t, END, drawn))
        log_p += next_log_p.gather(1, previous[:, None]).squeeze(1).masked_fill(ended, 0)
        steps.append(previous)
        if config.alignments and attention is not None:
            attentions.append(attention)
        ended |= previous == END
        if ended.all():
            break
    if not log_p.isfinite().all():
        raise NotFiniteError
    texts = [[token for token in row if token not in (END, PAD)] for row in torch.stack(steps, 1).tolist()]
    weights = torch.stack(attentions, 1).float().cpu().numpy() if attentions else None  # (R, T + 1, A, S)
    hypotheses = []
    for i, (tokens, score) in enumerate(zip(texts, log_p.tolist(), strict=True)):
        if weights is None:
            hypotheses.append(Hypothesis(tokens, score))
            continue
        attention_of_row = weights[i, : len(tokens) + 1, :, : int(sizes[i // samples])]
        alignment = ensemble.alignment(attention_of_row, config.aligned_step)
        hypotheses.append(Hypothesis(tokens, score, attention_of_row.mean(1), alignment))
    return [hypotheses[i : i + samples] for i in range(0, rows, samples)]


def _uniforms(source: Tensor, config: DecodingConfig) -> np.ndarray:
    """(B * n_best, longest) random numbers of [0, 1), from the seed, the sentence's tokens and the sample's number."""
    longest = source.shape[1] + config.extra_tokens
    draws = []
    for row in source.cpu().numpy():
        sentence = int.from_bytes(hashlib.blake2b(row[row != PAD].tobytes(), digest_size=8).digest(), "big")
        draws += [np.random.default_rng([config.seed, sentence, i]).random(longest) for i in range(config.n_best)]
    return np.stack(draws)
