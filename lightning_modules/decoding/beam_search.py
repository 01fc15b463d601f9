"""Beam search over a batch of texts: one loop for translators and language models.

What differs between them comes from the caller:

- `Decoder`: what the model predicts next, and how its state follows the hypotheses;
- `StoppingRule`: which ended hypotheses count as finished, and when a text is done;
- `must_end`: whether a hypothesis at its limit has to take the end token, or is cut there.

The search copies no hypotheses while it runs. It keeps back-pointers, from which `FinishedHypotheses` are read at the end.
Shapes: B texts, N of them still searched, H open hypotheses of each (one before the first token, then W, the beam), vocabulary size V.
"""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from lightning_modules.decoding.top_k import top_k


class NextTokens(NamedTuple):
    """What a model predicts after N x H open hypotheses: log p = `values` + `offset`.

    Logits need no copy for their normalisation: `offset` is then minus their log-sum-exp.
    """

    values: Tensor  # (N, H, V)
    offset: Tensor | None = None  # (N, H, 1); None is 0


class Decoder(Protocol):
    """A model in the middle of a search: its state is that of the open hypotheses."""

    def start(self) -> NextTokens:
        """The first tokens of B texts, H = 1."""

    def advance(self, tokens: Tensor, rows: Tensor, kept: Tensor | None) -> NextTokens:
        """The tokens after N x W hypotheses, each of which extends a hypothesis of the step before by one token.

        Args:
            tokens: (N, W) the tokens; rows: (N, W) the hypotheses that they extend, among all N x H of the step before.
            kept: (N,) places of the texts among those of the step before; None when no text has left.
        """


class StoppingRule(Protocol):
    """When the search for a text is done. It may hold a state for each of the N texts."""

    def finish(self, ended: Tensor, log_p: Tensor, length: int) -> Tensor:
        """(N, W) which of the `ended` (N, W) candidates count as finished; all have `length` tokens, the best come first."""

    def done(self, log_p: Tensor, length: int) -> Tensor:
        """(N,) which texts are done, from log p (N, W) of their open hypotheses of `length` tokens, best first."""

    def keep(self, texts: Tensor) -> None:
        """Drops the state of all texts but those at these places."""


class FinishedHypotheses(NamedTuple):
    """F finished hypotheses of a search, in the order in which they finished."""

    texts: np.ndarray  # (F,) places among the B texts
    log_p: np.ndarray  # (F,)
    lengths: np.ndarray  # (F,) numbers of tokens, the end token included
    tokens: np.ndarray  # (F, T) T is the largest length; what follows a hypothesis' end has no meaning
    rows: np.ndarray  # (F, T) the row, of all N x H of a step, whose prediction each token is


class Extensions(NamedTuple):
    """C hypotheses of each of N texts, best first; each extends one of the step before by a token."""

    log_p: Tensor  # (N, C)
    tokens: Tensor  # (N, C)
    rows: Tensor  # (N, C) the extended hypotheses, among all N x H of the step before

    def first(self, count: int) -> "Extensions":
        """The best `count` of each text."""
        return Extensions(*(values[:, :count] for values in self))

    def first_open(self, count: int, ended: Tensor) -> "Extensions":
        """The best `count` that have not `ended` (N, C), padded with ended hypotheses of log p = -inf."""
        order = ended.to(torch.int8).argsort(dim=1, stable=True)[:, :count]  # stable: the open ones keep their order
        log_p = self.log_p.masked_fill(ended, -torch.inf)
        return Extensions(*(values.gather(1, order) for values in (log_p, self.tokens, self.rows)))

    def of(self, texts: Tensor) -> "Extensions":
        """Those of the texts at these places."""
        return Extensions(*(values[texts] for values in self))


def search(
    decoder: Decoder, rule: StoppingRule, limits: Tensor, *, beam_size: int, end: int | Tensor, must_end: bool
) -> FinishedHypotheses:
    """Beam search until every text is done by `rule`, or its hypotheses have as many tokens as `limits` (B,) allow.

    Each step looks at the 2 W best continuations of a text. Those among the first W that end may finish; the first W that do
    not end stay open. A hypothesis ends with the token `end`, or one of several, which counts for its length, or at the limit.
    """
    texts = torch.arange(len(limits), device=limits.device)
    shortest_limit = int(limits.min())
    log_p = torch.zeros(len(limits), 1, device=limits.device)  # (N, H) of the open hypotheses
    pointers = BackPointers()
    predicted, length = decoder.start(), 0
    while True:
        length += 1
        at_limit = limits[texts] <= length if length >= shortest_limit else None  # None: no text is, as at most steps
        if at_limit is not None and must_end:
            _only(predicted.values, at_limit, int(end))
        candidates = _extended(predicted, log_p, 2 * beam_size)

        ended = candidates.tokens == end if isinstance(end, int) else torch.isin(candidates.tokens, end)
        if at_limit is not None:
            ended |= at_limit[:, None]
        if ended.any():
            best, finite = candidates.first(beam_size), candidates.log_p.isfinite()
            finished = rule.finish((ended & finite)[:, :beam_size], best.log_p, length)
            pointers.finish(finished, texts, best, length)
            hypotheses = candidates.first_open(beam_size, ended)
        else:
            hypotheses = candidates.first(beam_size)

        done, kept = rule.done(hypotheses.log_p, length), None
        if at_limit is not None:
            done = done | at_limit
        if done.any():
            kept = (~done).nonzero()[:, 0]
            if not len(kept):
                return pointers.follow()
            rule.keep(kept)
            texts, hypotheses = texts[kept], hypotheses.of(kept)
        pointers.extend(hypotheses)
        log_p, predicted = hypotheses.log_p, decoder.advance(hypotheses.tokens, hypotheses.rows, kept)


def _extended(predicted: NextTokens, log_p: Tensor, count: int) -> Extensions:
    """The `count` best continuations of each text, from log p (N, H) of its hypotheses; all where they are fewer."""
    texts, hypotheses, vocab_size = predicted.values.shape
    before = log_p[:, :, None]
    if predicted.offset is not None:
        before = before + predicted.offset
    best, places = top_k(predicted.values, before, min(count, hypotheses * vocab_size))
    first_rows = hypotheses * torch.arange(texts, device=places.device)[:, None]
    return Extensions(best, places % vocab_size, places // vocab_size + first_rows)


def _only(log_p: Tensor, texts: Tensor, token: int) -> None:
    """Leaves `token` as the only continuation of the texts (N,) in log p (N, H, V)."""
    of_token = log_p[texts, :, token]
    log_p[texts] = -torch.inf
    log_p[texts, :, token] = of_token


class _FinishedAtStep(NamedTuple):
    """The F hypotheses that finish at one step."""

    length: int
    texts: Tensor  # (F,)
    rows: Tensor  # (F,) the open hypotheses that they extend
    tokens: Tensor  # (F,) their last tokens
    log_p: Tensor  # (F,)


class BackPointers:
    """Which hypothesis each hypothesis extends, and by which token; what has finished."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []  # of each step: (N * W,) the rows of the step before that its hypotheses extend
        self.tokens: list[Tensor] = []  # (N * W,) the tokens that extend them
        self.finished: list[_FinishedAtStep] = []

    def extend(self, hypotheses: Extensions) -> None:
        """The open hypotheses after a step."""
        self.rows.append(hypotheses.rows.flatten())
        self.tokens.append(hypotheses.tokens.flatten())

    def finish(self, finished: Tensor, texts: Tensor, candidates: Extensions, length: int) -> None:
        """The candidates of the N `texts` at which `finished` (N, C) is true."""
        values = (texts[:, None].expand_as(finished), candidates.rows, candidates.tokens, candidates.log_p)
        self.finished.append(_FinishedAtStep(length, *(of_all[finished] for of_all in values)))

    def follow(self) -> FinishedHypotheses:
        """All finished hypotheses, read from their last token to their first."""
        lengths = np.repeat([step.length for step in self.finished], [len(step.rows) for step in self.finished])
        texts, current, last, log_p = (torch.cat(x).cpu().numpy() for x in list(zip(*self.finished, strict=True))[1:])
        parents, chosen = ([x.cpu().numpy() for x in steps] for steps in (self.rows, self.tokens))
        tokens = np.zeros((len(lengths), lengths.max(initial=0)), np.int64)
        rows = np.zeros_like(tokens)
        tokens[np.arange(len(lengths)), lengths - 1] = last
        for t in reversed(range(tokens.shape[1])):
            reached = slice(
                int(np.searchsorted(lengths, t, side="right")), None
            )  # the hypotheses of more than t tokens
            rows[reached, t] = current[reached]
            if t:
                tokens[reached, t - 1] = chosen[t - 1][current[reached]]
                current[reached] = parents[t - 1][current[reached]]
        return FinishedHypotheses(texts, log_p, lengths, tokens, rows)
