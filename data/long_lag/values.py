"""Tasks 3 to 5: sequences of real values."""

import numpy as np
from pydantic import Field

from data.long_lag.task import Criterion, Network, Sequences, Task, all_biased, padded, sequences_of


class Bengio(Task):
    """Task 3a: the 2-sequence problem. The first N elements are 1 (class 1) or -1 (class 2), the rest is noise; class at the end."""

    varied = frozenset({"T", "N"})
    learning_rate: float = Field(default=1.0, gt=0)
    tolerance: float = Field(default=0.2, gt=0)
    T: int = Field(default=100, ge=2)
    """Shortest sequence, in steps; the longest has a tenth more. Paper: 100 and 1000."""
    N: int = Field(default=3, ge=1)
    """First elements that show the class. Paper: 1 and 3."""

    @property
    def paper_network(self) -> Network:
        return Network(
            inputs=1, outputs=1, blocks=3, biased=("gates", "cells"), input_gate_bias=(-1, -3, -5), output_gate_bias=(-2, -4, -6)
        )  # fmt: skip

    @property
    def paper_criteria(self) -> tuple[Criterion, ...]:
        published = {(100, 3): (27_380, 39_850), (100, 1): (58_370, 64_330), (1000, 3): (446_850, 452_460)}
        return self._criteria(published, 0, 0.01)

    def _criteria(
        self, published: dict[tuple[int, int], tuple[int, int]], wrong: int, error: float
    ) -> tuple[Criterion, ...]:
        st1, st2 = published.get((self.T, self.N), (None, None))
        return (
            Criterion(name="ST1", on="test", sequences=256, most_wrong=wrong, published=st1),
            Criterion(name="ST2", on="test", sequences=256, most_wrong=wrong, mean_error=error, published=st2),
        )

    def sequences(self, random: np.random.Generator, count: int) -> Sequences:
        lengths = random.integers(self.T, self.T + self.T // 10 + 1, size=count)
        first = random.integers(2, size=count) == 0  # class 1
        noise = random.normal(0, 0.2**0.5, size=(count, self.T + self.T // 10))
        signal = np.where(first, 1.0, -1.0)[:, None]
        values = np.concatenate([self.signal(signal, noise[:, : self.N]), noise[:, self.N :]], 1)
        goals, targets = self.goals(first, random)
        return sequences_of(padded(values, lengths)[..., None], lengths, targets[:, None, None], goals[:, None, None])

    def signal(self, signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return np.broadcast_to(signal, noise.shape)

    def goals(self, first: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What is judged, and what is trained on."""
        return (first * 1.0,) * 2


class NoisySignal(Bengio):
    """Task 3b: noise on the first N elements, too."""

    @property
    def paper_criteria(self) -> tuple[Criterion, ...]:
        published = {(100, 3): (41_740, 43_250), (100, 1): (74_950, 78_430), (1000, 1): (481_060, 485_080)}
        return self._criteria(published, 5, 0.04)

    def signal(self, signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return signal + noise


class NoisyTargets(Bengio):
    """Task 3c: targets .2 and .8 with noise of variance .1; the net has to learn their expectations."""

    learning_rate: float = Field(default=0.1, gt=0)
    tolerance: float = Field(default=0.1, gt=0)

    @property
    def paper_criteria(self) -> tuple[Criterion, ...]:
        published = {(100, 3): 269_650, (100, 1): 565_640}.get((self.T, self.N))
        return (Criterion(on="test", sequences=256, mean_error=0.015, published=published),)

    def goals(self, first: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        goals = np.where(first, 0.2, 0.8)
        return goals, goals + random.normal(0, 0.1**0.5, size=len(goals))


class Adding(Task):
    """Task 4: pairs of a value in [-1, 1] and a marker; the (scaled) sum of the two values marked by 1."""

    varied = frozenset({"T"})
    learning_rate: float = Field(default=0.5, gt=0)
    tolerance: float = Field(default=0.04, gt=0)
    T: int = Field(default=100, ge=22)
    """Shortest sequence, in steps; the longest has a tenth more. Paper: 100, 500 and 1000."""

    @property
    def paper_network(self) -> Network:
        return all_biased(inputs=2, outputs=1, blocks=2, input_gate_bias=(-3, -6))

    @property
    def paper_criteria(self) -> tuple[Criterion, ...]:
        published = {100: 74_000, 500: 209_000, 1000: 853_000}.get(self.T)
        return (Criterion(on="training", sequences=2000, mean_error=0.01, published=published),)

    def values(self, random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        return random.uniform(-1, 1, shape)

    def target(self, x: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """(N,) from the marked values X1, X2 (N, 2); `hidden` ones are in a first pair, whose marker does not show them."""
        return 0.5 + np.where(hidden, 0, x).sum(1) / 4

    def sequences(self, random: np.random.Generator, count: int) -> Sequences:
        rows, longest = np.arange(count), self.T + self.T // 10
        lengths = random.integers(self.T, longest + 1, size=count)
        values = self.values(random, (count, longest))
        first = random.integers(10, size=count)
        second = random.integers(self.T // 2 - 1, size=count)  # of the first T/2 - 1 pairs that are still unmarked
        marked = np.stack([first, second + (second >= first)], 1)
        markers = np.zeros((count, longest))
        markers[rows[:, None], marked] = 1
        markers[rows, 0] = markers[rows, lengths - 1] = -1
        goals = self.target(values[rows[:, None], marked], marked == 0)[:, None, None]
        pairs = np.stack([padded(values, lengths), padded(markers, lengths)], -1)
        return sequences_of(pairs, lengths, goals, goals)


class Multiplication(Adding):
    """Task 5: values in [0, 1], and their product."""

    learning_rate: float = Field(default=0.1, gt=0)

    @property
    def paper_network(self) -> Network:
        return all_biased(inputs=2, outputs=1, blocks=2)

    @property
    def paper_criteria(self) -> tuple[Criterion, ...]:
        published = {140: 482_000, 13: 1_273_000} if self.T == 100 else {}
        return tuple(
            Criterion(name=f"{n}", on="training", sequences=2000, most_wrong=n - 1, published=published.get(n))
            for n in (140, 13)
        )

    def values(self, random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        return random.uniform(0, 1, shape)

    def target(self, x: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        return np.where(hidden, 1, x).prod(1)
