"""Rows from an iterator to an Arrow data set on disk, with flat memory."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError

from data.errors import InputError


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
