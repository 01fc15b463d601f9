"""Task 1: the embedded Reber grammar."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from core.errors import InputError
from data.long_lag.task import (
    TEST_PART,
    Criterion,
    Network,
    Sequences,
    Task,
    one_hot,
    padded,
    sequences_of,
    side_by_side,
)

if TYPE_CHECKING:
    from torch import Tensor


class EmbeddedReber(Task):
    """Task 1: predict every next symbol of the embedded Reber grammar; 256 training and 256 other test strings."""

    varied = frozenset({"learning_rate", "blocks", "cells", "squashing", "legal"})
    learning_rate: float = Field(default=0.5, gt=0)
    update: Literal["sequence", "step"] = "step"
    tolerance: float = Field(default=1.0, gt=0)
    """Not used: the legal next symbols must be the most active outputs."""
    round: int = Field(default=256, ge=1)
    blocks: int = Field(default=3, ge=1)
    """Memory blocks. Paper: 3 of 2 cells, or 4 of 1 cell."""
    cells: int = Field(default=2, ge=1)
    """Memory cells of each block."""
    squashing: Literal["text", "caption"] = "text"
    """`text`: g in [-2, 2] and h in [-1, 1]. `caption`: the reverse, as table 10's caption says."""
    legal: Literal["all", "one"] = "all"
    """Legal next symbols that must be more active than all others: all of them, or the most active one."""
    strings: int = Field(default=256, ge=1)
    """Strings of the training set, and of the test set."""
    sets: int = Field(default=3, ge=1)
    """Different pairs of training and test set; trials take turns."""

    @property
    def paper_network(self) -> Network:
        biases = tuple(-1.0 - j for j in range(self.blocks))
        g, h = ((-2.0, 2.0), (-1.0, 1.0)) if self.squashing == "text" else ((-1.0, 1.0), (-2.0, 2.0))
        return Network(
            inputs=7, outputs=7, blocks=self.blocks, cells=self.cells, biased=("gates",), g=g, h=h, initial=0.2,
            output_gate_bias=biases,
        )  # fmt: skip

    @property
    def paper_criteria(self) -> tuple[Criterion, ...]:
        sequences_of = {
            (4, 1, 0.1): 39_740,
            (3, 2, 0.1): 21_730,
            (3, 2, 0.2): 14_060,
            (4, 1, 0.5): 9_500,
            (3, 2, 0.5): 8_440,
        }
        published = sequences_of.get((self.blocks, self.cells, self.learning_rate))
        return (Criterion(on="test", sequences=2 * self.strings, published=published),)

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        (criterion,) = super().criteria
        if criterion.on == "test" and criterion.sequences > 2 * self.strings:
            raise InputError(
                f"criteria.{criterion.name}: sequences: {criterion.sequences} of {2 * self.strings} strings; give more `strings`"
            )
        return (criterion,)

    def sequences(self, random: np.random.Generator, count: int) -> Sequences:
        return reber_sequences(random, count)

    def training(self, seed: int, trial: int, turn: int) -> Sequences:
        chosen = np.random.default_rng([seed, trial, 0, turn]).integers(self.strings, size=self.round)
        return string_sets(seed, trial % self.sets, self.strings)[0][chosen]

    def test(self, seed: int, trial: int, part: int, count: int) -> Sequences:
        """Success is to be right on the training strings and on the test strings: one set after the other."""
        whole = side_by_side(list(string_sets(seed, trial % self.sets, self.strings)), "cat")
        return whole[part * TEST_PART :][:count]

    def judge(self, outputs: Tensor, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """Wrong where a symbol that cannot follow is as active as one that can (`legal: one`: as all that can)."""
        import torch

        steps = torch.arange(outputs.shape[-2], device=outputs.device) < sequences.lengths[..., None]
        legal = sequences.goals > 0
        every = self.legal == "all"
        lowest_legal = (
            outputs.masked_fill(~legal, math.inf).amin(-1) if every else outputs.masked_fill(~legal, -math.inf).amax(-1)
        )
        highest_illegal = outputs.masked_fill(legal, -math.inf).amax(-1)
        errors = (outputs - sequences.targets).abs().mean(-1).where(steps, 0)
        return ((lowest_legal <= highest_illegal) & steps).any(-1), errors.sum(-1) / sequences.lengths


@lru_cache(maxsize=16)
def string_sets(seed: int, number: int, strings: int) -> tuple[Sequences, Sequences]:
    """A training set, and a test set of strings that are not in it."""
    random = np.random.default_rng([seed, number, 2])
    train = reber_sequences(random, strings)
    test: list[Sequences] = []

    def texts(sequences: Sequences) -> list[tuple[int, ...]]:
        return [tuple(s[:n]) for s, n in zip(sequences.inputs.tolist(), sequences.lengths.tolist(), strict=True)]

    training_texts = set(texts(train))
    while sum(len(part.lengths) for part in test) < strings:
        more = reber_sequences(random, 8 * strings)
        test.append(more[[i for i, text in enumerate(texts(more)) if text not in training_texts]])
    return train, side_by_side(test, "cat")[:strings]


def reber_sequences(random: np.random.Generator, count: int) -> Sequences:
    """Strings to read and predict; the last symbol is only predicted."""
    symbols, legal = reber_strings(random, count)
    following = symbols[:, 1:]
    targets = one_hot(np.maximum(following, 0), len(SYMBOLS)) * (following >= 0)[..., None]
    lengths = (symbols >= 0).sum(1) - 1
    return sequences_of(padded(symbols[:, :-1], lengths), lengths, targets, legal[:, 1:] * 1.0)


def reber_strings(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` strings of the embedded Reber grammar as symbols (N, L) of "BTPSXVE", -1 after the end, and the symbols that may
    be at each place, (N, L, 7)."""
    state = np.zeros(count, np.int64)
    symbols, legal = [], []
    while (state >= 0).any():
        edge = random.integers(2, size=count)
        symbols.append(np.where(state >= 0, _SYMBOL[state, edge], -1))
        legal.append(_LEGAL[state] & (state >= 0)[:, None])
        state = np.where(state >= 0, _NEXT[state, edge], -1)
    return np.stack(symbols, 1), np.stack(legal, 1)


def _embedded_reber() -> list[list[tuple[str, int]]]:
    """Edges (symbol, next node) of each node of figure 4; -1 is the end."""
    # Figure 3, nodes from left to right.
    reber = [
        [("B", 1)], [("T", 2), ("P", 3)], [("S", 2), ("X", 4)], [("T", 3), ("V", 5)],
        [("X", 3), ("S", 6)], [("P", 4), ("V", 6)], [("E", 7)],
    ]  # fmt: skip
    nodes = [[("B", 1)], [("T", 2), ("P", 10)]]
    for symbol in "TP":
        start = len(nodes)
        nodes += [[(s, start + n) for s, n in edges] for edges in reber] + [[(symbol, 18)]]
    return [*nodes, [("E", -1)]]


SYMBOLS = "BTPSXVE"  # of task 1
_GRAPH = [(edges * 2)[:2] for edges in _embedded_reber()]  # a choice between two edges, equal ones where there is none
_SYMBOL = np.array([[SYMBOLS.index(s) for s, _ in edges] for edges in _GRAPH])
_NEXT = np.array([[n for _, n in edges] for edges in _GRAPH])
_LEGAL = np.array([[s in dict(edges) for s in SYMBOLS] for edges in _GRAPH])
