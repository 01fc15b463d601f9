"""Arrow data sets on disk: written from an iterator with flat memory, read where they lie."""

import collections
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets.exceptions import DatasetGenerationError

from core.errors import InputError


def stored_rows(rows: Iterable[dict[str, Any]], features: datasets.Features, folder: Path) -> datasets.Dataset:
    """The rows as a memory-mapped data set whose file lies in `folder`, which must outlive it.

    Raises:
        InputError: as raised by `rows`; `datasets` would hide it inside an error of its own.
    """

    def generate() -> Iterator[dict[str, Any]]:
        yield from rows

    try:
        # A running iterator cannot be hashed into a fingerprint; the folder is fresh, so any constant will do.
        return datasets.Dataset.from_generator(generate, features=features, cache_dir=str(folder), fingerprint="rows")
    except DatasetGenerationError as error:
        cause: BaseException | None = error
        while cause:
            if isinstance(cause, InputError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise


def read_split(folder: Path, name: str) -> datasets.Dataset:
    """One split of a folder of splits. Raises InputError when it is not there."""
    path = Path(folder) / name
    if not path.is_dir():
        raise InputError(f"{path}: no such split. Run the stage that makes {folder} (dvc repro).")
    return datasets.load_from_disk(str(path))


def token_counts(rows: datasets.Dataset, column: str) -> np.ndarray:
    """(rows,) lengths of the lists in a column, read from their offsets without touching what is in them."""
    return np.concatenate(
        [np.diff(chunk.offsets.to_numpy()) for chunk in chunks(rows, column)] or [np.zeros(0, np.int64)]
    )


def chunks(rows: datasets.Dataset, column: str) -> Iterator[Any]:
    """The Arrow arrays of a column, a part of the rows at a time."""
    table, size = rows.with_format("arrow"), 100_000
    for i in range(0, len(rows), size):
        yield from table[i : min(i + size, len(rows))].column(column).chunks


def references_by_source(rows: datasets.Dataset) -> dict[str, list[str]]:
    """Targets of each distinct source, in the order of first appearance: several references where a corpus gives them."""
    references: dict[str, list[str]] = collections.defaultdict(list)
    for source, target in zip(rows["source"], rows["target"], strict=True):
        references[source].append(target)
    return dict(references)
