"""Any data set with two text columns: a folder of the mirror, or the Hugging Face hub."""

import itertools
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from core.errors import InputError
from data import mirror
from data.corpora import CorpusConfig, Pair


class Config(CorpusConfig):
    """Settings of the corpus `hub`."""

    name: Literal["hub"]
    """Any data set with two text columns."""
    path: str
    """Id on the Hugging Face hub, or the folder's name in the data mirror."""
    config: str | None = None
    """The data set's own configuration, where it has several."""
    source_column: str
    """Column of the sources; a column inside a nested one is written `translation.en`."""
    target_column: str
    """Column of the targets, written in the same way."""
    splits: dict[Literal["train", "validation", "test"], str] = Field(default={"train": "train"})
    """From the name of a split here to its name in the data set."""

    @property
    def official(self) -> frozenset[str]:
        return frozenset(self.splits) - {"train"}


def outside(config: CorpusConfig) -> list[str]:
    """The folder of the mirror, else the hub's data set."""
    assert isinstance(config, Config)
    folder = mirror.folder(config.path)
    return [str(folder) if folder else f"hub:datasets/{config.path}"]


def pairs(config: CorpusConfig) -> Iterator[Pair]:
    """Pairs of the named splits, read as a stream.

    Raises:
        InputError: the data set cannot be loaded, or lacks a split or column that the config names.
    """
    assert isinstance(config, Config)
    import datasets

    local = mirror.folder(config.path)
    for ours, theirs in config.splits.items():
        try:
            rows = datasets.load_dataset(str(local or config.path), config.config, split=theirs, streaming=True)
            yield from itertools.islice(_read(rows, config, theirs, ours), config.limit)
        except InputError:
            raise
        except Exception as error:  # the hub's client raises whatever its transport does
            raise InputError(
                f"corpus 'hub': {config.path}, split '{theirs}': {type(error).__name__}: {error}. "
                f"Check path and splits of corpus.hub in params.yaml, or put a copy into {mirror.VARIABLE}/{config.path}."
            ) from error


def official_pairs(corpus: str, path: str, source_column: str, target_column: str) -> Iterator[Pair]:
    """Pairs of a corpus that Gradus knows by name, from its place on the hub; for when no mirror has it.

    Raises:
        InputError: the hub cannot be reached or has it in another form; says how to use a mirror.
    """
    splits = {name: name for name in ("train", "validation", "test")}
    try:
        yield from pairs(
            Config(name="hub", path=path, source_column=source_column, target_column=target_column, splits=splits)
        )
    except InputError as error:
        place = mirror.root()
        missing = f"{mirror.VARIABLE}={place} has no folder '{corpus}'" if place else f"{mirror.VARIABLE} is not set"
        raise InputError(
            f"corpus '{corpus}': {missing}, and the hub did not give it either ({str(error)[:300]}). Set {mirror.VARIABLE} to a data mirror "
            f"that holds '{corpus}/' (`gradus data fetch {corpus} --output DIR; export {mirror.VARIABLE}=DIR`), "
            "or choose another corpus (gradus use default)."
        ) from None


def _read(rows: Any, config: Config, theirs: str, ours: str) -> Iterator[Pair]:
    for number, row in enumerate(rows):
        source, target = (_column(row, c, config.path) for c in (config.source_column, config.target_column))
        if source and target:
            yield Pair(f"{theirs}:{number}", source, target, ours)


def _column(row: Any, name: str, path: str) -> str:
    value = row
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise InputError(f"corpus 'hub': {path} has no column '{name}'; it has: {', '.join(map(str, row))}.")
        value = value[part]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"corpus 'hub': {path}: column '{name}' holds {type(value).__name__}, text expected.")
    return value.strip()
