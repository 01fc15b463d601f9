"""A table with a column of inputs and a column of outputs: CSV, JSON Lines, a JSON array or parquet, compressed or not."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from core.errors import InputError
from data.comparisons.importing.records import Problem, Record, Records, locate
from data.comparisons.jsonl import parse_record
from data.corpora import CorpusConfig, Pair


class Config(CorpusConfig):
    """Settings of the corpus `table`. Paths are relative to the project or to the data mirror."""

    name: Literal["table"]
    """A table with a column of inputs and a column of outputs."""
    train_file: Path
    """The table to train on."""
    validation_file: Path | None = None
    """The same for validation. `null`: rows are held out from the training file."""
    test_file: Path | None = None
    """The same for testing. `null`: rows are held out from the training file."""
    source_column: str = "input"
    """Column of the inputs; a column inside a nested one is written `outer.inner`."""
    target_column: str = "output"
    """Column of the outputs, written in the same way."""

    @property
    def official(self) -> frozenset[str]:
        return frozenset(split for split, _ in _files(self) if split != "train")


def outside(config: CorpusConfig) -> list[str]:
    """The tables."""
    assert isinstance(config, Config)
    return [str(locate(str(file))) for _, file in _files(config)]


def pairs(config: CorpusConfig) -> Iterator[Pair]:
    """Pairs of all rows that have an input and an output. Rows of one input are one document, so they are in one split.

    Raises:
        InputError: a table is missing or broken, has no such column, or a cell that is no text; names file and line.
    """
    assert isinstance(config, Config)
    for split, file in _files(config):
        count = 0
        for line, record in Records(str(file)):
            where = f"{file}:{line}"
            row = _row(record)
            if isinstance(row, Problem):
                raise InputError(f"{where}: {row.why}")
            source, target = (_cell(row, column, where) for column in (config.source_column, config.target_column))
            if source and target:
                count += 1
                yield Pair(source, source, target, split)
        if not count:
            raise InputError(f"{file}: no row has both an input and an output.")


def _files(config: Config) -> Iterator[tuple[str, Path]]:
    files = {"train": config.train_file, "validation": config.validation_file, "test": config.test_file}
    yield from ((split, file) for split, file in files.items() if file)


def _row(record: Record) -> Mapping[str, Any] | Problem:
    try:
        return parse_record(record) if isinstance(record, bytes) else record
    except ValueError as error:
        return Problem(str(error))


def _cell(row: Mapping[str, Any], column: str, where: str) -> str:
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise InputError(
                f"{where}: no column '{column}'; it has: {', '.join(map(str, row))}. "
                "Name your columns: source_column and target_column of corpus.table."
            )
        value = value[part]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{where}: column '{column}' has {type(value).__name__}, text expected.")
    return value.strip()
