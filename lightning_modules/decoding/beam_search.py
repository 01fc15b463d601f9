"""Beam search over a batch of sentences, with the attention of the hypotheses' own steps."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.errors import InputError, NotFiniteError
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.decoding.ensemble import Ensemble, select
from lightning_modules.decoding.hypotheses import DecodingConfig, Hypothesis, score
from lightning_modules.decoding.top_k import top_k
from lightning_modules.translators.base import Translator


@torch.no_grad()
def beam_search(model: Translator | Ensemble, source: Tensor, settings: DecodingConfig) -> list[list[Hypothesis]]:
    """Beam search over a padded batch (B, S): `n_best` hypotheses for each sentence, best first.

    At each step the 2 x beam best continuations of a sentence are looked at: those among its first `beam` that end are
    finished hypotheses, the first `beam` that do not end go on. A sentence is done when `beam` hypotheses have finished.
    At `extra_tokens` beyond its source every hypothesis must end.

    Raises InputError when a coverage penalty is wanted of a model without attention, or no score is finite.
    """
    ensemble = Ensemble.of(model)
    if settings.coverage_penalty and not ensemble.attends:
        raise InputError("coverage_penalty: it needs attention, and the model has none. Set it to 0 for this model.")
    with ensemble.products_in(settings.precision):
        trail = _searched(ensemble, source, settings)
    return _ranked(trail, ensemble, source, settings)


def _searched(ensemble: Ensemble, source: Tensor, settings: DecodingConfig) -> "Trail":
    beam = settings.beam_size
    memories, states = ensemble.begin(source, 1)  # before the first token a sentence has one hypothesis
    limits = (source != PAD).sum(1) - 1 + settings.extra_tokens
    first_limit = int(limits.min())
    sentences = torch.arange(len(source), device=source.device)  # rows of `source` still at work
    scores = source.new_zeros(len(source), 1, dtype=torch.float32)
    previous = source.new_full((len(source),), BEGIN)
    finished = torch.zeros_like(sentences)  # hypotheses of each sentence at work
    trail = Trail(keeps_attention=ensemble.attends and (settings.alignments or settings.coverage_penalty > 0))

    while len(sentences):
        length = len(trail.steps) + 1  # with the token chosen now, the end token counted
        log_p, attention, states = ensemble.step(memories, states, previous)
        trail.add(previous, attention)
        log_p = log_p.view(*scores.shape, -1)
        must_end = limits[sentences] < length
        if length > first_limit:
            end = log_p[must_end, :, END]
            log_p[must_end] = -torch.inf
            log_p[must_end, :, END] = end
        types = log_p.shape[2]
        total, order = top_k(log_p, scores[:, :, None], min(2 * beam, scores.shape[1] * types))
        origin, token = order // types, order % types
        row = origin + scores.shape[1] * torch.arange(len(sentences), device=source.device)[:, None]

        ends = token == END
        if length <= first_limit and not ends.any():  # as at most steps
            scores, row, token = (x[:, :beam] for x in (total, row, token))
        else:
            ending = ends & total.isfinite()
            ending[:, beam:] = False
            ending &= finished[:, None] + ending.cumsum(1) <= beam
            trail.ended.append(Ended(length, sentences[ending.nonzero()[:, 0]], row[ending], total[ending]))
            finished = finished + ending.sum(1)
            # The first `beam` that do not end, in their order: a stable sort moves the ended ones behind them.
            live = ends.to(torch.int8).argsort(dim=1, stable=True)[:, :beam]
            keep = ((finished < beam) & ~must_end).nonzero()[:, 0]
            scores, row, token = (x.gather(1, live)[keep] for x in (total.masked_fill(ends, -torch.inf), row, token))
            if len(keep) < len(sentences):
                memories, sentences, finished = select(memories, keep), sentences[keep], finished[keep]
        previous, parents = token.flatten(), row.flatten()
        trail.parents.append(parents)
        states = select(states, parents)
    return trail


class Ended(NamedTuple):
    """The hypotheses that end at one step."""

    length: int  # theirs, with the end token
    sentences: Tensor  # (N,)
    rows: Tensor  # (N,) the row that each extends
    log_p: Tensor  # (N,)


class Trail:
    """What each step saw, from which the finished hypotheses are read at the end: nothing is carried along while searching."""

    def __init__(self, keeps_attention: bool) -> None:
        self.keeps_attention = keeps_attention
        self.steps: list[np.ndarray] = []  # (R,) the tokens that each step read
        self.attention: list[np.ndarray] = []  # (R, A, S)
        self.parents: list[Tensor] = []  # (R of the next step,) the row of this step that each row of the next extends
        self.ended: list[Ended] = []

    def add(self, previous: Tensor, attention: Tensor | None) -> None:
        self.steps.append(previous.cpu().numpy())
        if self.keeps_attention and attention is not None:
            self.attention.append(attention.float().cpu().numpy())

    def followed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """Of all N finished hypotheses, longest first: sentences, log P, lengths (with the end token), tokens (N, longest) from
        the begin token on, and the attention (N, longest, A, S) of their steps."""
        lengths = np.repeat([e.length for e in self.ended], [len(e.rows) for e in self.ended])[::-1]
        sentences, rows, log_p = (torch.cat(x).cpu().numpy()[::-1] for x in list(zip(*self.ended, strict=True))[1:])
        parents = [p.cpu().numpy() for p in self.parents]
        tokens = np.full((len(rows), len(self.steps)), PAD)
        attention = np.zeros((*tokens.shape, *self.attention[0].shape[1:]), np.float32) if self.attention else None
        rows = rows.copy()
        for t in reversed(range(len(self.steps))):
            reached = int(np.searchsorted(-lengths, -t, side="left"))  # hypotheses of more than t tokens stand first
            at = rows[:reached]
            tokens[:reached, t] = self.steps[t][at]
            if attention is not None:
                attention[:reached, t] = self.attention[t][at]
            if t:
                rows[:reached] = parents[t - 1][at]
        return sentences, log_p, lengths, tokens, attention


def _ranked(trail: Trail, ensemble: Ensemble, source: Tensor, settings: DecodingConfig) -> list[list[Hypothesis]]:
    found: list[list[Hypothesis]] = [[] for _ in range(len(source))]
    sizes = (source != PAD).sum(1).tolist()
    sentences, log_p, lengths, tokens, attention = trail.followed()
    for i in reversed(range(len(sentences))):  # in the order they finished: the first of equals is the better one
        sentence, length = int(sentences[i]), int(lengths[i])
        seen = attention[i, :length, :, : sizes[sentence]] if attention is not None else None
        found[sentence].append(hypothesis(ensemble, tokens[i, 1:length].tolist(), float(log_p[i]), seen, settings))
    if not all(found):
        raise NotFiniteError
    return [sorted(h, key=lambda h: -h.score)[: settings.n_best] for h in found]


def hypothesis(
    ensemble: Ensemble, tokens: list[int], log_p: float, attention: np.ndarray | None, settings: DecodingConfig
) -> Hypothesis:
    """A finished hypothesis from the attention (T + 1, A, S) of its steps, ranked by `settings`."""
    mean = attention.mean(1) if attention is not None else None
    ranked = score(log_p, len(tokens) + 1, mean, settings)
    if attention is None or not settings.alignments:
        return Hypothesis(tokens, ranked)
    return Hypothesis(tokens, ranked, mean, ensemble.alignment(attention, settings.aligned_step))
