"""The one decoding path of all translators: greedy, beam search, sampling, alignment.

Everything is batched; sentences that are done leave the batch. What a sentence gets does not depend on the others in its
batch (to the rounding of matrix products).
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from data.batching import padded
from data.settings import Settings
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.translator import Memory, State, Translator


class DecodingSettings(Settings):
    """How to decode. A beam of 1 is greedy search."""

    method: Literal["beam", "sample"] = "beam"
    beam: int = Field(default=5, ge=1)
    n_best: int = Field(default=1, ge=1)  # hypotheses given for each sentence; with method "sample", samples
    length_penalty: float = 0.6  # alpha of Wu et al. (2016), eq. 14; 0 ranks by log probability alone
    extra_pieces: int = Field(
        default=50, ge=0
    )  # a translation may be this much longer than its source (Vaswani et al. 2017, 6.1)
    temperature: float = Field(default=1.0, gt=0)  # method "sample"
    seed: int = 0  # method "sample"
    batch_pieces: int = Field(default=2048, ge=1)  # padded source pieces of one batch

    @model_validator(mode="after")
    def _beam_is_wide_enough(self) -> "DecodingSettings":
        if self.method == "beam" and self.n_best > self.beam:
            raise ValueError(f"n_best ({self.n_best}) needs a beam of that width or more (found {self.beam})")
        return self


@dataclass(frozen=True)
class Hypothesis:
    """One translation: its pieces without begin and end, and its score, by which hypotheses of a sentence are ranked."""

    pieces: list[int]
    score: float


def translate(
    model: Translator, sources: list[list[int]], settings: DecodingSettings
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """Decodes sentences of piece ids, longest batch first; yields (index in `sources`, hypotheses, best first) as they come.

    An empty source gives one empty hypothesis.
    """
    device = next(model.parameters()).device
    decode = beam_search if settings.method == "beam" else sample
    was_training = model.training
    model.eval()
    try:
        for batch in _batches([len(s) for s in sources], settings.batch_pieces):
            full = [i for i in batch if sources[i]]
            yield from ((i, [Hypothesis([], 0.0)]) for i in batch if not sources[i])
            if full:
                source = padded([[*sources[i], END] for i in full]).to(device)
                yield from zip(full, decode(model, source, settings), strict=True)
    finally:
        model.train(was_training)


def _batches(lengths: list[int], budget: int) -> Iterable[list[int]]:
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (lengths[batch[0]] + 1) * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def length_penalty(length: int | Tensor, alpha: float) -> float | Tensor:
    """lp(Y) = ((5 + |Y|) / 6)^alpha; a hypothesis' score is log P(Y|X) / lp(Y). |Y| counts the end piece."""
    return ((5 + length) / 6) ** alpha


@torch.inference_mode()
def beam_search(model: Translator, source: Tensor, settings: DecodingSettings) -> list[list[Hypothesis]]:
    """Beam search over a padded batch (B, S).

    At each step the 2 x beam best continuations of a sentence are looked at: those among its first `beam` that end are
    finished hypotheses, the first `beam` that do not end go on. A sentence is done when `beam` hypotheses have finished.
    At `extra_pieces` beyond its source every hypothesis must end.
    """
    beam = settings.beam
    memory = model.encode(source)
    state = model.start(memory, beam)
    limits = (source != PAD).sum(1) - 1 + settings.extra_pieces
    sentences = torch.arange(len(source), device=source.device)  # rows of `source` still at work
    scores = source.new_zeros(len(source), beam, dtype=torch.float32)
    scores[:, 1:] = -torch.inf  # all beams start equal: the first stands for all
    pieces = source.new_full((len(source), beam, 1), BEGIN)
    finished: list[list[Hypothesis]] = [[] for _ in range(len(source))]

    while len(sentences):
        length = pieces.shape[2]  # with the piece chosen now, the end piece counted
        features, _, state = model.step(memory, state, pieces[:, :, -1].reshape(-1))
        log_p = _log_probabilities(model, features).view(len(sentences), beam, -1)
        must_end = limits[sentences] < length
        log_p[must_end] = log_p[must_end].masked_fill(_not_end(log_p.shape[-1], log_p.device), -torch.inf)
        best, piece = log_p.topk(min(2 * beam, log_p.shape[-1]), dim=2)
        candidates = (scores[:, :, None] + best).flatten(1)
        total, order = candidates.topk(min(2 * beam, candidates.shape[1]), dim=1)
        origin, piece = order // best.shape[2], piece.flatten(1).gather(1, order)

        ends = piece == END
        first = torch.arange(total.shape[1], device=total.device) < beam
        for a, j in (ends & first & total.isfinite()).nonzero().tolist():
            found = finished[sentences[a]]
            if len(found) < beam:
                path = pieces[a, origin[a, j], 1:].tolist()
                found.append(Hypothesis(path, float(total[a, j] / length_penalty(length, settings.length_penalty))))

        # The first `beam` that do not end, in their order: a stable sort moves the ended ones behind them.
        live = ends.to(torch.int8).argsort(dim=1, stable=True)[:, :beam]
        scores, origin, piece = (
            total.gather(1, live).masked_fill(ends.gather(1, live), -torch.inf),
            origin.gather(1, live),
            piece.gather(1, live),
        )
        going = [a for a, i in enumerate(sentences.tolist()) if len(finished[i]) < beam and not must_end[a]]
        keep = torch.tensor(going, dtype=torch.long, device=source.device)
        rows = (keep[:, None] * beam + origin[keep]).flatten()
        state = {name: tensor.index_select(0, rows) for name, tensor in state.items()}
        if len(keep) < len(sentences):
            memory = {name: tensor.index_select(0, keep) for name, tensor in memory.items()}
            sentences = sentences[keep]
        pieces = pieces[keep].gather(1, origin[keep][:, :, None].expand(-1, -1, length))
        pieces = torch.cat([pieces, piece[keep][:, :, None]], 2)
        scores = scores[keep]
    return [sorted(found, key=lambda h: -h.score)[: settings.n_best] for found in finished]


@torch.inference_mode()
def sample(model: Translator, source: Tensor, settings: DecodingSettings) -> list[list[Hypothesis]]:
    """`n_best` ancestral samples for each sentence of a padded batch (B, S), in the order drawn; scores are log P(Y|X).

    Random numbers belong to (seed, sentence, sample), so a sentence's samples are the same in any batch.
    """
    count = settings.n_best
    limits = ((source != PAD).sum(1) - 1 + settings.extra_pieces).repeat_interleave(count)
    uniforms = torch.from_numpy(_uniforms(source, settings)).to(source.device)  # (B * count, longest)
    memory = model.encode(source)
    state = model.start(memory, count)
    rows = len(limits)
    previous = source.new_full((rows,), BEGIN)
    scores, ended = torch.zeros(rows, device=source.device), torch.zeros(rows, dtype=torch.bool, device=source.device)
    chosen: list[Tensor] = []
    for t in range(uniforms.shape[1]):
        features, _, state = model.step(memory, state, previous)
        log_p = _log_probabilities(model, features)
        distribution = torch.softmax(log_p / settings.temperature, -1).double().cumsum(-1)
        drawn = (
            torch.searchsorted(distribution, uniforms[:, t, None] * distribution[:, -1:])
            .squeeze(1)
            .clamp_(max=log_p.shape[-1] - 1)
        )
        previous = torch.where(ended, PAD, torch.where(limits <= t, END, drawn))
        scores += log_p.gather(1, previous[:, None]).squeeze(1).masked_fill(ended, 0)
        chosen.append(previous)
        ended |= previous == END
        if ended.all():
            break
    paths = torch.stack(chosen, 1).tolist()
    hypotheses = [
        Hypothesis([p for p in path if p not in (END, PAD)], score)
        for path, score in zip(paths, scores.tolist(), strict=True)
    ]
    return [hypotheses[i : i + count] for i in range(0, rows, count)]


def _uniforms(source: Tensor, settings: DecodingSettings) -> np.ndarray:
    longest = source.shape[1] + settings.extra_pieces
    draws = []
    for row in source.cpu().numpy():
        sentence = int.from_bytes(hashlib.blake2b(row[row != PAD].tobytes(), digest_size=8).digest(), "big")
        draws += [np.random.default_rng([settings.seed, sentence, i]).random(longest) for i in range(settings.n_best)]
    return np.stack(draws)


@torch.inference_mode()
def alignment(model: Translator, source: Tensor, target: Tensor) -> Tensor | None:
    """(B, T, S) attention over the source while the decoder is given `target` (B, 1 + T), which starts with the begin piece.

    None of a model that has no attention.
    """
    memory: Memory = model.encode(source)
    state: State = model.start(memory, 1)
    steps = []
    for t in range(target.shape[1] - 1):
        _, attention, state = model.step(memory, state, target[:, t])
        if attention is None:
            return None
        steps.append(attention)
    return torch.stack(steps, 1)


def _log_probabilities(model: Translator, features: Tensor) -> Tensor:
    """(R, V) log p of the next piece. The begin piece and padding are no continuation: they get none of the probability."""
    weight, bias = model.output
    scores = torch.nn.functional.linear(features, weight, bias).float()
    scores[:, [PAD, BEGIN]] = -torch.inf
    return torch.log_softmax(scores, -1)


def _not_end(types: int, device: torch.device) -> Tensor:
    return torch.arange(types, device=device) != END
