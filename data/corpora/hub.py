"""Any data set with two text columns: a folder of the mirror, or the Hugging Face hub."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from data import mirror
from data.corpora import CorpusSettings, Pair
from data.errors import InputError


class Settings(CorpusSettings):
    """Settings of the corpus `hub`; a column inside a nested one is written `translation.en`."""

    name: Literal["hub"]
    path: str  # hub id, or the folder's name in the mirror
    config: str | None = None
    source_column: str
    target_column: str
    splits: dict[str, str] = Field(default={"train": "train"})  # our split: theirs


def pairs(settings: CorpusSettings) -> Iterator[Pair]:
    """Pairs of the named splits, read as a stream.

    Raises:
        InputError: the data set cannot be loaded, or lacks a split or column that the settings name.
    """
    assert isinstance(settings, Settings)
    import datasets

    local = mirror.folder(settings.path)
    official = set(settings.splits) != {"train"}
    for ours, theirs in settings.splits.items():
        try:
            rows = datasets.load_dataset(str(local or settings.path), settings.config, split=theirs, streaming=True)
        except Exception as error:  # the hub's client raises whatever its transport does
            raise InputError(
                f"corpus 'hub': {settings.path}, split '{theirs}': {type(error).__name__}: {error}. "
                f"Check corpus.path and corpus.splits in params.yaml, or put a copy into {mirror.VARIABLE}/{settings.path}."
            ) from error
        for number, row in enumerate(rows):
            source, target = (_column(row, c, settings.path) for c in (settings.source_column, settings.target_column))
            if source and target:
                yield Pair(f"{theirs}:{number}", source, target, ours if official else None)


def _column(row: Any, name: str, path: str) -> str:
    value = row
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise InputError(f"corpus 'hub': {path} has no column '{name}'; it has: {', '.join(map(str, row))}.")
        value = value[part]
    if not isinstance(value, str):
        raise InputError(f"corpus 'hub': {path}: column '{name}' holds {type(value).__name__}, text expected.")
    return value.strip()
