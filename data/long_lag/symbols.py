"""Tasks 2 and 6: sequences of symbols, in the local representation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from data.long_lag.task import Criterion, Network, Sequences, Task, all_biased, at_end, one_hot, padded, sequences_of

if TYPE_CHECKING:
    from torch import Tensor


class TwoSequences(Task):
    """Task 2a: (y, a_1 .. a_p-1, y) and (x, a_1 .. a_p-1, x); predict every next symbol, all of them right."""

    varied = frozenset({"p"})
    learning_rate: float = Field(default=1.0, gt=0)
    update: Literal["sequence", "step"] = "step"
    tolerance: float = Field(default=0.25, gt=0)
    round: int = Field(default=10, ge=1)
    p: int = Field(default=100, ge=2)
    """The time lag, in steps. Paper: 100 (table 2)."""

    @property
    def paper_network(self) -> Network:
        return Network(
            inputs=self.p + 1, outputs=self.p + 1, blocks=1, output_gates=False, recurrent=False, shortcut=True,
            g=(0.0, 1.0), h=None, initial=0.2, late_blocks=True,
        )  # fmt: skip

    @property
    def paper_criteria(self) -> tuple[Criterion, ...]:
        return (Criterion(on="test", sequences=10_000, published=5_040 if self.p == 100 else None),)

    def middle(self, random: np.random.Generator, count: int) -> np.ndarray:
        return np.broadcast_to(np.arange(self.p - 1), (count, self.p - 1))

    def sequences(self, random: np.random.Generator, count: int) -> Sequences:
        first = self.p - 1 + random.integers(2, size=(count, 1))  # a_p = x, a_p+1 = y, counted from 0 here
        symbols = np.concatenate([first, self.middle(random, count), first], 1)
        targets = one_hot(symbols[:, 1:], self.p + 1)
        return sequences_of(symbols[:, :-1], np.full(count, self.p), targets, targets)

    def test(self, seed: int, trial: int, part: int, count: int) -> Sequences:
        """Two sequences are all there are: each once says as much as 10,000 random ones."""
        return _distinct(super().test(seed, trial, part, max(count, 64)))

    def judge(self, outputs: Tensor, sequences: Sequences) -> tuple[Tensor, Tensor]:
        errors = (outputs - sequences.goals).abs().flatten(-2)
        return (errors >= self.tolerance).any(-1), errors.mean(-1)


class RandomMiddle(TwoSequences):
    """Task 2b: as 2a with a random middle; only the end can be predicted, and only it is judged."""

    @property
    def paper_criteria(self) -> tuple[Criterion, ...]:
        return (Criterion(on="test", sequences=10_000, published=5_680 if self.p == 100 else None),)

    def middle(self, random: np.random.Generator, count: int) -> np.ndarray:
        return random.integers(self.p - 1, size=(count, self.p - 1))

    def test(self, seed: int, trial: int, part: int, count: int) -> Sequences:
        drawn = Task.test(self, seed, trial, part, count)
        ends = at_end(drawn.targets, drawn.lengths)[:, None]
        return Sequences(drawn.inputs, drawn.lengths, ends, ends)

    def judge(self, outputs: Tensor, sequences: Sequences) -> tuple[Tensor, Tensor]:
        return Task.judge(self, outputs, sequences)


class LongDistractors(Task):
    """Task 2c: b, x or y, q + k distractors out of p, e; then predict the x or y. k is geometric: an e comes with probability .1."""

    varied = frozenset({"q", "p"})
    learning_rate: float = Field(default=0.01, gt=0)
    tolerance: float = Field(default=0.2, gt=0)
    q: int = Field(default=50, ge=1)
    """Minimum number of distractors in a sequence: the minimal time lag is q + 1. Paper: 50 to 1000 (table 3)."""
    p: int = Field(default=50, ge=1)
    """Distractor symbols to choose from. Paper: 50 to 1000 (table 3)."""

    @property
    def paper_network(self) -> Network:
        return Network(inputs=self.p + 4, outputs=2, blocks=2, initial=0.2)

    @property
    def paper_criteria(self) -> tuple[Criterion, ...]:
        thousands_of = {(50, 50): 30, (100, 100): 31, (200, 200): 33, (500, 500): 38, (1000, 1000): 49,
                 (1000, 500): 49, (1000, 200): 75, (1000, 100): 135, (1000, 50): 203}  # fmt: skip
        thousands = thousands_of.get((self.q, self.p))
        return (Criterion(on="test", sequences=10_000, published=thousands and 1000 * thousands),)

    def sequences(self, random: np.random.Generator, count: int) -> Sequences:
        lengths = self.q + 3 + random.geometric(0.1, count) - 1
        symbols = random.integers(self.p, size=(count, lengths.max()))
        e, b, x = self.p, self.p + 1, self.p + 2
        second = random.integers(2, size=count)  # x, y
        symbols[:, 0], symbols[:, 1] = b, x + second
        symbols[np.arange(count), lengths - 1] = e
        return sequences_of(padded(symbols, lengths), lengths, *[one_hot(second[:, None], 2)] * 2)


class TemporalOrder(Task):
    """Task 6a: E, noise out of a, b, c, d with two symbols X or Y in it, B; a class for each order of Xs and Ys."""

    learning_rate: float = Field(default=0.5, gt=0)
    tolerance: float = Field(default=0.3, gt=0)
    positions: tuple[tuple[int, int], ...] = ((10, 20), (50, 60))
    """First and last possible step of each X or Y, counted from 1."""
    blocks: int = Field(default=2, ge=1)
    """Memory blocks of 2 cells."""
    published: ClassVar[int] = 31_390

    @property
    def paper_network(self) -> Network:
        biases = tuple(-2.0 * (j + 1) for j in range(self.blocks))
        return all_biased(inputs=8, outputs=2 ** len(self.positions), blocks=self.blocks, input_gate_bias=biases)

    @property
    def paper_criteria(self) -> tuple[Criterion, ...]:
        return (Criterion(on="training", sequences=2000, mean_error=0.1, published=self.published),)

    def sequences(self, random: np.random.Generator, count: int) -> Sequences:
        rows, lengths = np.arange(count), random.integers(100, 111, size=count)
        symbols = 2 + random.integers(4, size=(count, 110))  # E, B, a, b, c, d, X, Y
        order = random.integers(2, size=(count, len(self.positions)))
        for i, (first, last) in enumerate(self.positions):
            symbols[rows, random.integers(first, last + 1, size=count) - 1] = 6 + order[:, i]
        symbols[:, 0], symbols[rows, lengths - 1] = 0, 1
        classes = order @ (2 ** np.arange(len(self.positions))[::-1])  # X, X is Q; X, Y is R; ...
        return sequences_of(
            padded(symbols, lengths), lengths, *[one_hot(classes[:, None], self.paper_network.outputs)] * 2
        )


class TemporalOrder3(TemporalOrder):
    """Task 6b: three symbols, eight classes."""

    learning_rate: float = Field(default=0.1, gt=0)
    positions: tuple[tuple[int, int], ...] = ((10, 20), (33, 43), (66, 76))
    blocks: int = Field(default=3, ge=1)
    published: ClassVar[int] = 571_100


def _distinct(sequences: Sequences) -> Sequences:
    """Each sequence of symbols once."""
    _, places = np.unique(sequences.inputs.numpy(), axis=0, return_index=True)
    return sequences[places]
