"""Raw records of a source: JSON Lines, JSON arrays, CSV, each also compressed; parquet; hub data sets. What a record means is not known here."""

import codecs
import csv
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import InputError
from data import mirror
from data.comparisons.importing.compression import ENDINGS, ERRORS, unpacked

MAX_RECORD_BYTES = 64 * 1024 * 1024  # a longer line is not read: a file without line ends must not fill the memory
HUB = "hub:"  # hub:owner/name[:config]:split
_CHUNK = 1024 * 1024
_NOMINAL = 1024 * 1024
_SPACE = re.compile(r"\s*")


class Problem(NamedTuple):
    """Why a record was dropped."""

    why: str


Record = bytes | Mapping[str, Any] | Problem  # bytes: a line of JSON, not yet looked at


class Records:
    """The records of one source, with how far the reading is.

    `name` is the origin of its rankings. `total` and `done` are bytes of the file (of a hub data set: parts of a nominal size).
    """

    def __init__(self, source: str) -> None:
        """Finds the source. Raises InputError when there is no such file or its ending is unknown."""
        self.source = source
        self.total = _NOMINAL
        self.is_table = False  # every value is a text
        self._position: Callable[[], int] = lambda: 0
        self._read: Callable[[], Iterator[tuple[int, Record]]]
        if source.startswith(HUB):
            self.name, self._read = source.removeprefix(HUB), self._hub
            return
        self.path = locate(source)
        self.name = self.path.name
        suffixes = self.path.suffixes
        self._packed = suffixes.pop() if suffixes and suffixes[-1] in ENDINGS else ""
        ending = suffixes[-1] if suffixes else ""
        readers = {
            ".jsonl": self._lines, ".ndjson": self._lines, ".json": self._json, ".csv": self._csv, ".parquet": self._parquet,
        }  # fmt: skip
        if ending not in readers or (self._packed and ending == ".parquet"):
            raise InputError(
                f"{source}: its name must end in {', '.join(readers)} (or {', '.join(ENDINGS)} after the first four)."
            )
        self._read = readers[ending]
        self.is_table = ending == ".csv"
        self.total = self.path.stat().st_size

    @property
    def done(self) -> int:
        """Bytes read so far, in this or the last iteration."""
        return self._position()

    def __iter__(self) -> Iterator[tuple[int, Record]]:
        """Each record with its line number, or its number in a JSON array, parquet file or hub data set; from 1.

        Raises:
            InputError: the file cannot be read on (broken gzip, a JSON array that is no JSON, the hub's errors).
        """
        return self._read()

    def identity(self) -> list[Any]:
        """Plain data that changes when the file does."""
        if self.source.startswith(HUB):
            return []
        facts = self.path.stat()
        return [str(self.path.resolve()), facts.st_size, facts.st_mtime_ns]

    @contextmanager
    def _opened(self) -> Iterator[io.BufferedReader]:
        try:
            with open(self.path, "rb") as raw:
                self._position = raw.tell
                yield unpacked(raw, self._packed) if self._packed else raw
                size = self.total
                self._position = lambda: size
        except (*ERRORS, zlib.error) as error:
            raise InputError(f"{self.source}: cannot be read to its end ({error}). Fetch the file again.") from None

    @contextmanager
    def _text(self) -> Iterator[io.TextIOWrapper]:
        # Bytes that are not UTF-8 come as lone surrogates, which `_surrogate` finds in the record they are in.
        with self._opened() as stream:
            yield io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")

    def _lines(self) -> Iterator[tuple[int, Record]]:
        with self._opened() as stream:
            number = 0
            while line := stream.readline(MAX_RECORD_BYTES + 1):
                number += 1
                if len(line) > MAX_RECORD_BYTES:
                    while line and not line.endswith(b"\n"):
                        line = stream.readline(_CHUNK)
                    yield number, Problem(f"longer than {MAX_RECORD_BYTES:,} bytes")
                    continue
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield number, line

    def _json(self) -> Iterator[tuple[int, Record]]:
        with self._opened() as stream:
            start = stream.peek(3).removeprefix(codecs.BOM_UTF8).lstrip()[:1]
        if start == b"{":  # JSON Lines under the wrong name
            yield from self._lines()
            return
        with self._text() as text:
            yield from enumerate(_Array(text, self.source).items(), start=1)

    def _csv(self) -> Iterator[tuple[int, Record]]:
        csv.field_size_limit(MAX_RECORD_BYTES)
        with self._text() as text:
            reader = csv.reader(self._limited(text), strict=True)
            header: list[str] | None = None
            while True:
                line = reader.line_num + 1
                try:
                    row = next(reader, None)
                except csv.Error as error:
                    yield line, Problem(f"not CSV ({error})")
                    continue
                if row is None:
                    return
                if header is None:
                    header = row
                    if len(set(header)) < len(header):
                        raise InputError(
                            f"{self.source}:{line}: a column's name is in the header twice. Rename one of the two."
                        )
                elif row:
                    yield line, _row(header, row)

    def _limited(self, text: io.TextIOWrapper) -> Iterator[str]:
        """The lines of a text; csv.reader itself would take a line of any length into memory."""
        while line := text.readline(MAX_RECORD_BYTES + 1):
            if len(line) > MAX_RECORD_BYTES:
                raise InputError(f"{self.source}: a line is longer than {MAX_RECORD_BYTES:,} characters. Is this CSV?")
            yield line

    def _parquet(self) -> Iterator[tuple[int, Record]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                batches = file.iter_batches(batch_size=1000)
                rows = (row for batch in batches for row in batch.to_pylist())
                yield from self._counted(rows, file.metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.source}: cannot be read as parquet ({error}).") from None

    def _hub(self) -> Iterator[tuple[int, Record]]:
        import datasets

        parts = self.name.split(":")
        if len(parts) not in (2, 3) or not all(parts):
            raise InputError(f"{self.source}: {HUB}OWNER/NAME:SPLIT or {HUB}OWNER/NAME:CONFIG:SPLIT expected.")
        path, config, split = parts[0], parts[1] if len(parts) == 3 else None, parts[-1]
        local = mirror.folder(path)
        try:
            rows = datasets.load_dataset(str(local or path), config, split=split)
        except Exception as error:  # the hub's client raises whatever its transport does
            raise InputError(
                f"{self.source}: {type(error).__name__}: {str(error)[:300]}. Check the name, the config and the split, "
                f"or put a copy into {mirror.VARIABLE}/{path}."
            ) from error
        yield from self._counted(iter(rows), len(rows))

    def _counted(self, rows: Iterator[Mapping[str, Any]], count: int) -> Iterator[tuple[int, Record]]:
        number = 0
        self._position = lambda: self.total * number // max(1, count)
        for row in rows:
            number += 1
            yield number, row


def locate(source: str) -> Path:
    """A file's path: as given (absolute, or from the project's folder), else inside the data mirror. Raises InputError."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    base = mirror.root()
    if base and (base / path).is_file():
        return base / path
    raise InputError(
        f"{source}: no such file"
        + (f", nor in the mirror {base}." if base else f" (and {mirror.VARIABLE} is not set).")
    )


def _row(header: list[str], row: list[str]) -> Record:
    if len(row) != len(header):
        return Problem(f"{len(row)} cells, but the header has {len(header)}")
    fault = _surrogate("\n".join(row))
    return Problem(fault) if fault else dict(zip(header, row, strict=True))


def _surrogate(text: str) -> str | None:
    """What is wrong with a text that was read with `surrogateescape`: the first byte that is not UTF-8, or nothing."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        before = text[: error.start].encode()
        return f"not UTF-8 (byte 0x{ord(text[error.start]) & 0xFF:02x} at byte {len(before)} of the record)"
    return None


class _Array:
    """The items of a JSON array while it is read: only one item, and what is read ahead, is in memory."""

    def __init__(self, text: io.TextIOBase, source: str) -> None:
        self.text, self.source = text, source
        self.buffer, self.at = "", 0  # what is read, and how far it is used
        self.constants: list[str] = []  # NaN and the like, which JSON does not have
        self.decode = json.JSONDecoder(parse_constant=self.constants.append).raw_decode

    def items(self) -> Iterator[Record]:
        """Each item, or what is wrong with it. Raises InputError where the array cannot be read on."""
        count, mark = 0, self._mark("[")
        while mark != "]" and (count or self._peek() != "]"):
            count += 1
            self.constants.clear()
            item, end = self._item(count)
            fault = _surrogate(self.buffer[self.at : end])
            if fault is None and self.constants:
                fault = f"{self.constants[0]} is not a number"
            elif fault is None and not isinstance(item, dict):
                fault = "a JSON object expected"
            self.at = end
            yield Problem(fault) if fault else item
            mark = self._mark(",]")

    def _item(self, number: int) -> tuple[Any, int]:
        """The value at `at` and where it ends; reads on until it is complete."""
        self._peek()
        while True:
            try:
                item, end = self.decode(self.buffer, self.at)
                if end < len(self.buffer) or not self._read():  # a number may continue after what is read
                    return item, end
            except (json.JSONDecodeError, RecursionError) as error:
                if len(self.buffer) - self.at > MAX_RECORD_BYTES or not self._read():
                    what = getattr(error, "msg", "nested too deeply")
                    raise InputError(
                        f"{self.source}: item {number} is not JSON ({what}), and no item after it can be read. Fix the file."
                    ) from None

    def _mark(self, expected: str) -> str:
        mark = self._peek()
        if not mark or mark not in expected:
            raise InputError(f"{self.source}: no JSON array: '{expected[-1]}' expected, found '{mark or 'the end'}'.")
        self.at += 1
        return mark

    def _peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            self.at = _SPACE.match(self.buffer, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self._read():
                return ""

    def _read(self) -> bool:
        self.buffer, self.at = self.buffer[self.at :], 0
        more = self.text.read(max(_CHUNK, len(self.buffer)))  # doubling: a long item is not tried again too often
        self.buffer += more
        return bool(more)
