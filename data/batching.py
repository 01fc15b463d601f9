"""Token-budget batches by length, the same on every run, resumable at any batch."""

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.processes import Process
from data.tokenizer import PAD

SINGLE = Process()
MAX_SOURCE_FACTOR = 8  # padded source cells of a batch, in budgets: one long source does not pad hundreds of short ones


class ResumableLoader(ABC):
    """An iterable over the batches of one epoch after another.

    Its state (epoch, position) makes a resumed run see exactly the batches that the killed one would have seen. Lightning
    saves it through `state_dict`.

    Of several processes that share every batch, the one of rank r has every n-th item from the r-th on, where n is the world size.
    A batch of fewer than n items goes to each of them as a whole.
    """

    def __init__(
        self, collate: Callable[[np.ndarray], Any], shuffle: bool, seed: int, process: Process = SINGLE
    ) -> None:
        """`collate` makes a batch of item indices."""
        self.collate, self.shuffle, self.seed, self.process = collate, shuffle, seed, process
        self.epoch = self.position = 0

    @abstractmethod
    def __len__(self) -> int:
        """Batches of an epoch; the same in all."""

    @abstractmethod
    def batches(self, epoch: int) -> list[np.ndarray]:
        """Item indices of each batch of an epoch, in order."""

    def __iter__(self) -> Iterator[Any]:
        if self.position >= len(self):  # the epoch before was read to its end
            self.epoch, self.position = self.epoch + 1, 0
        batches, (rank, world_size) = self.batches(self.epoch), self.process
        while self.position < len(batches):
            self.position += 1  # before the yield: a checkpoint taken while this batch trains counts it as seen
            batch = batches[self.position - 1]
            yield self.collate(batch[rank::world_size] if len(batch) >= world_size else batch)

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


class TokenBudgetLoader(ResumableLoader):
    """Batches whose padded size stays within a budget.

    Items are sorted by length, so a batch holds hardly any padding; each epoch shuffles equal lengths among themselves, and
    the order of batches. Batch boundaries depend on lengths alone: every epoch has the same number of batches.
    """

    def __init__(
        self,
        lengths: np.ndarray,  # (items,) size of an item as the budget counts it
        collate: Callable[[np.ndarray], Any],  # indices -> batch
        budget: int,
        *,
        secondary: np.ndarray | None = None,  # (items,) second sorting key: the other side's length
        rows: np.ndarray | None = None,  # (items,) rows of a batch that an item takes, 1 unless given
        shuffle: bool = True,
        seed: int = 0,
        process: Process = SINGLE,
    ) -> None:
        super().__init__(collate, shuffle, seed, process)
        self.lengths = lengths
        self.secondary = np.zeros_like(lengths) if secondary is None else secondary
        self.rows = np.ones_like(lengths) if rows is None else rows
        order = np.lexsort((self.secondary, self.rows, lengths))
        self.boundaries = _boundaries(lengths[order], self.secondary[order], self.rows[order], budget)

    def __len__(self) -> int:
        return len(self.boundaries) - 1

    def batches(self, epoch: int) -> list[np.ndarray]:
        random = np.random.default_rng([self.seed, epoch])
        ties = random.random(len(self.lengths)) if self.shuffle else np.arange(len(self.lengths))
        order = np.lexsort((ties, self.secondary, self.rows, self.lengths))
        batches = [order[a:b] for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)]
        if self.shuffle:
            batches = [batches[i] for i in random.permutation(len(batches))]
        return batches


def _boundaries(lengths: np.ndarray, secondary: np.ndarray, rows: np.ndarray, budget: int) -> list[int]:
    """Cuts ascending `lengths` where one more item would make longest x rows exceed the budget, or the other side `MAX_SOURCE_FACTOR` times it."""
    boundaries, taken, widest = [0], 0, 0
    for i, (length, other, count) in enumerate(zip(lengths.tolist(), secondary.tolist(), rows.tolist(), strict=True)):
        padded_rows, padded_width = taken + count, max(widest, other)
        if taken and (length * padded_rows > budget or padded_width * padded_rows > MAX_SOURCE_FACTOR * budget):
            boundaries.append(i)
            taken, padded_width = 0, other
        taken, widest = taken + count, padded_width
    return [*boundaries, len(lengths)]


def padded(rows: Sequence[Sequence[int] | np.ndarray]) -> Tensor:
    """(rows, longest) token ids, filled up with PAD on the right."""
    return _filled(rows, _in_row(rows))


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(rows, longest) token ids, filled up with PAD on the left, and the mask: 1 on tokens, 0 on padding."""
    in_row = _in_row(rows)[:, ::-1]
    return _filled(rows, in_row), torch.from_numpy(in_row.astype(np.int64))


def _in_row(rows: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
    """(rows, longest) True at the places below each row's length."""
    lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    in_row: np.ndarray = np.arange(int(lengths.max(initial=0))) < lengths[:, None]
    return in_row


def _filled(rows: Sequence[Sequence[int] | np.ndarray], in_row: np.ndarray) -> Tensor:
    """The rows' tokens where `in_row` is True, PAD elsewhere."""
    out = np.full(in_row.shape, PAD, np.int64)
    out[in_row] = np.concatenate([np.asarray(row, np.int64) for row in rows]) if in_row.shape[1] else []
    return torch.from_numpy(out)


class BalancedLoader(ResumableLoader):
    """Random batches of nearly the same number of tokens, all within a budget; nothing is padded.

    Sizes, rounded up to a 64th of the budget, are assigned once and greedily, largest first, to the emptiest batch. Each epoch shuffles
    the items of the same rounded size among their places, so that batches are of other items and their number stays. An item above
    the budget is a batch by itself.
    """

    def __init__(
        self,
        sizes: np.ndarray,  # (items,) tokens of each, at least 1
        collate: Callable[[np.ndarray], Any],  # indices -> batch
        budget: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        process: Process = SINGLE,
    ) -> None:
        super().__init__(collate, shuffle, seed, process)
        quantum = max(1, budget // 64)
        self.rounded = np.minimum(-(-sizes // quantum) * quantum, budget)
        self.order = np.argsort(-self.rounded, kind="stable")
        self.batch_of = _assigned(self.rounded[self.order].tolist(), budget)

    def __len__(self) -> int:
        return int(self.batch_of.max()) + 1

    def batches(self, epoch: int) -> list[np.ndarray]:
        random = np.random.default_rng([self.seed, epoch])
        order = np.lexsort((random.random(len(self.order)), -self.rounded)) if self.shuffle else self.order
        by_batch = np.argsort(self.batch_of, kind="stable")
        batches = np.split(order[by_batch], np.bincount(self.batch_of).cumsum()[:-1])
        return [batches[i] for i in random.permutation(len(batches))] if self.shuffle else batches


def _assigned(sizes: list[int], budget: int) -> np.ndarray:
    """The batch of each of descending `sizes`: as few batches as keep all of them within the budget."""
    count = min(max(1, -(-sum(sizes) // budget)), len(sizes))
    while True:
        loads = [(0, i) for i in range(count)]  # a heap
        chosen = []
        for size in sizes:
            load, i = loads[0]
            heapq.heapreplace(loads, (load + size, i))
            chosen.append(i)
        if max(loads)[0] <= budget or count == len(sizes):
            return np.array(chosen)
        count = min(count + max(1, count // 50), len(sizes))
