"""Beam search over a batch of texts: one loop for translators and language models.

What differs between them comes from the caller:

- `Decoder`: what the model predicts next, and how its state follows the hypotheses;
- `StoppingRule`: which ended hypotheses count as finished, and when a text is done;
- `must_end`: whether a hypothesis at its limit has to take the end token, or is cut there.

The search copies no hypotheses while it runs. It keeps back-pointers, from which `FinishedHypotheses` are read at the end.
Shapes: B texts, N of them still searched, H open hypotheses of each (one before the first token, then W, the beam), V types.
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


def search(
    decoder: Decoder, rule: StoppingRule, limits: Tensor, *, beam_size: int, end: int, must_end: bool
) -> FinishedHypotheses:
    """Beam search until `rule` is content with every text, or its hypotheses have as many tokens as `limits` (B,) allow.

    Each step looks at the 2 W best continuations of a text. Those among the first W that end may finish; the first W that do
    not end stay open. A hypothesis ends with the token `end`, which counts for its length, or at the limit.
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
            _only(predicted.values, at_limit, end)
        hypotheses, types = predicted.values.shape[1:]
        candidates = min(2 * beam_size, hypotheses * types)
        before = log_p[:, :, None]
        before = before if predicted.offset is None else before + predicted.offset
        log_p, places = top_k(predicted.values, before, candidates)  # (N, 2 W)
        tokens = places % types
        rows = places // types + hypotheses * torch.arange(len(texts), device=texts.device)[:, None]

        ended = tokens == end
        if at_limit is not None:
            ended |= at_limit[:, None]
        if ended.any():
            first = slice(0, beam_size)
            finished = rule.finish((ended & log_p.isfinite())[:, first], log_p[:, first], length)
            pointers.finish(finished, texts, rows[:, first], tokens[:, first], log_p[:, first], length)
            # A stable sort moves the ended candidates behind the open ones, which keep their order.
            still_open = ended.to(torch.int8).argsort(dim=1, stable=True)[:, first]
            log_p = log_p.masked_fill(ended, -torch.inf)
            log_p, tokens, rows = (x.gather(1, still_open) for x in (log_p, tokens, rows))
        else:
            log_p, tokens, rows = (x[:, :beam_size] for x in (log_p, tokens, rows))

        done = rule.done(log_p, length)
        if at_limit is not None:
            done = done | at_limit
        kept = None
        if done.any():
            kept = (~done).nonzero()[:, 0]
            if not len(kept):
                return pointers.follow()
            rule.keep(kept)
            texts, log_p, tokens, rows = (x[kept] for x in (texts, log_p, tokens, rows))
        pointers.extend(rows, tokens)
        predicted = decoder.advance(tokens, rows, kept)


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

    def extend(self, rows: Tensor, tokens: Tensor) -> None:
        """The open hypotheses after a step, each (N, W)."""
        self.rows.append(rows.flatten())
        self.tokens.append(tokens.flatten())

    def finish(self, finished: Tensor, texts: Tensor, rows: Tensor, tokens: Tensor, log_p: Tensor, length: int) -> None:
        """The candidates of the N `texts` at which `finished` (N, W) is true, from the (N, W) values of all."""
        of_each = (texts[:, None].expand_as(finished), rows, tokens, log_p)
        self.finished.append(_FinishedAtStep(length, *(values[finished] for values in of_each)))

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
