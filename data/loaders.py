"""Batches of encoded sets: for translators, and for a language model that reads a pair as one text."""

import datasets
import numpy as np
from torch import Tensor

from core.processes import Process
from data.arrow import token_counts
from data.batching import SINGLE, TokenBudgetLoader, padded
from data.tokenizer import BEGIN, END, SEPARATOR


def translation_loader(
    rows: datasets.Dataset, budget: int, *, shuffle: bool = True, seed: int = 0, process: Process = SINGLE
) -> TokenBudgetLoader:
    """Batches of an encoded set: a dictionary of source (B, S) with its end token, and target (B, T) as [begin] tokens [end].

    `budget` counts padded target cells.
    """
    table = rows.with_format("arrow")

    def collate(indices: np.ndarray) -> dict[str, Tensor]:
        columns = table[indices]
        source = [[*ids, END] for ids in columns.column("source").to_pylist()]
        target = [[BEGIN, *ids, END] for ids in columns.column("target").to_pylist()]
        return {"source": padded(source), "target": padded(target)}

    lengths = token_counts(rows, "target") + 1
    return TokenBudgetLoader(
        lengths,
        collate,
        budget,
        secondary=token_counts(rows, "source"),
        shuffle=shuffle,
        seed=seed,
        process=process,
    )


def causal_loader(
    rows: datasets.Dataset, budget: int, *, shuffle: bool = True, seed: int = 0, process: Process = SINGLE
) -> TokenBudgetLoader:
    """Batches (B, T) of an encoded set as one text a pair: [begin] source [separator] target [end]."""
    table = rows.with_format("arrow")

    def collate(indices: np.ndarray) -> Tensor:
        columns = table[indices]
        pairs = zip(columns.column("source").to_pylist(), columns.column("target").to_pylist(), strict=True)
        return padded([causal_text(source, target) for source, target in pairs])

    lengths = token_counts(rows, "source") + token_counts(rows, "target") + 3
    return TokenBudgetLoader(lengths, collate, budget, shuffle=shuffle, seed=seed, process=process)


def causal_text(prompt: list[int], response: list[int]) -> list[int]:
    """A prompt with its response as the language model reads them."""
    return [BEGIN, *prompt, SEPARATOR, *response, END]
