"""Plain parallel text: two files, one sentence per line, line i of one translated by line i of the other; gzip or not."""

import codecs
import gzip
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from core.errors import InputError
from data import mirror
from data.corpora import CorpusConfig, Pair


class Config(CorpusConfig):
    """Settings of the corpus `parallel_text`. Paths are relative to the project or to the data mirror."""

    name: Literal["parallel_text"]
    """Two text files, line by line translations of each other."""
    train_files: tuple[Path, Path]
    """Source file and target file, with one sentence per line; `.gz` is read, too."""
    validation_files: tuple[Path, Path] | None = None
    """The same for validation. `null`: pairs are held out from the training files."""
    test_files: tuple[Path, Path] | None = None
    """The same for testing. `null`: pairs are held out from the training files."""

    @property
    def official(self) -> frozenset[str]:
        given = {"validation": self.validation_files, "test": self.test_files}
        return frozenset(name for name, files in given.items() if files)


def outside(config: CorpusConfig) -> list[str]:
    """Both files of each split."""
    assert isinstance(config, Config)
    files = (config.train_files, config.validation_files, config.test_files)
    return [str(_locate(file)) for pair in files if pair for file in pair]


def pairs(config: CorpusConfig) -> Iterator[Pair]:
    """Pairs of all the files, each a document of its own."""
    assert isinstance(config, Config)
    yield from _split(config.train_files, "train")
    if config.validation_files:
        yield from _split(config.validation_files, "validation")
    if config.test_files:
        yield from _split(config.test_files, "test")


def read_parallel(source: Path, target: Path, split: str | None) -> Iterator[Pair]:
    """Pairs of two files, read line by line.

    Raises:
        InputError: a file is missing, empty, not UTF-8 or broken gzip, or the files differ in length; names file and line.
    """
    end = object()
    count = 0
    for count, (a, b) in enumerate(itertools.zip_longest(_lines(source), _lines(target), fillvalue=end), start=1):
        if a is end or b is end:
            short, long = (source, target) if a is end else (target, source)
            raise InputError(
                f"{short}: ends after {count - 1} lines, but {long} has more. Parallel files need equal numbers of lines."
            )
        if a and b:  # an empty side has nothing to learn from
            yield Pair(f"{source.name}:{count}", str(a), str(b), split)
    if count == 0:
        raise InputError(f"{source}: the file is empty. Put one sentence on each line.")


def _split(files: tuple[Path, Path], split: str | None) -> Iterator[Pair]:
    source, target = (_locate(f) for f in files)
    return read_parallel(source, target, split)


def _locate(path: Path) -> Path:
    if path.is_file():
        return path
    base = mirror.root()
    if base and (base / path).is_file():
        return base / path
    raise InputError(
        f"{path}: no such file" + (f", nor in the mirror {base}" if base else f" (and {mirror.VARIABLE} is not set)")
    )


def _lines(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as stream:
            for line in stream:
                number += 1
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                yield line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start}). Convert the file to UTF-8."
        ) from None
    except (EOFError, zlib.error, OSError) as error:
        raise InputError(f"{path}: broken after line {number} ({error}). Fetch the file again.") from None
