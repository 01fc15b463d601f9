"""Sources of rankings, of any format, read as one stream: every ranking, joined pairs among them, and every problem with its place."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeGuard, cast

from data.comparisons import formats
from data.comparisons.formats import AUTO, Format
from data.comparisons.importing.annotations import AnnotationColumns, AnnotationFormat
from data.comparisons.importing.chats import read_from_json
from data.comparisons.importing.columns import Columns, cells
from data.comparisons.importing.joining import Contradiction, Judged, Place, join
from data.comparisons.importing.records import Problem, Record, Records
from data.comparisons.importing.report import Dropped
from data.comparisons.importing.source import Source
from data.comparisons.jsonl import parse_ranking, parse_record
from data.comparisons.ranking import Ranking, ranking


class Bar(Protocol):
    """Shows how far a reading is, as `core.progress.Progress` does."""

    def update(self, done: int, facts: str = "") -> None: ...


NewBar = Callable[[int], Bar]  # for so many bytes
_RECORDS_BETWEEN_UPDATES = 1000
_MAX_GATHERED = 1000  # rows of one prompt: a table whose prompts are all alike must not fill the memory
_ALONE = (
    "no row before or after has this prompt and labeler: sort the table, so that the rows of a prompt follow each other"
)


def read(
    source: str | Path, format: str = AUTO, columns: Mapping[str, Any] | None = None, higher_is_better: bool = False
) -> Iterator[tuple[int, Ranking | Problem]]:
    """The rankings of one source, pairs unjoined, and what is wrong with wrong records, with line (or item or row) numbers.

    Raises:
        InputError: the source cannot be read.
    """
    mapping = Columns(**columns) if columns else None
    opened = _OpenedSource(
        Source(source=str(source), format=format, columns=mapping, higher_is_better=higher_is_better)
    )
    for unit in opened.units():
        for result in opened.results(unit):
            yield unit.line, result


class Row(NamedTuple):
    """One result of reading. Rows of one position are of the same record."""

    position: int
    result: Judged | Contradiction | Dropped | None  # None: a record in which nothing is ranked


class Reading:
    """All sources of an import as one stream of rows, whose order depends on the sources alone."""

    def __init__(self, sources: Sequence[Source], bar: NewBar | None = None) -> None:
        """Raises InputError when a source is not there."""
        opened = [_OpenedSource(source) for source in sources]
        self.single = [source for source in opened if not source.format.PAIRS]
        self.paired = [source for source in opened if source.format.PAIRS]
        self.records = 0  # read so far
        self._done, self._total = 0, sum(source.records.total for source in (*self.single, *self.paired, *self.paired))
        self._bar = bar(self._total) if bar else None

    def identity(self) -> list[Any]:
        """Plain data that tells whether sources are the same, with the same contents."""
        return [source.identity() for source in (*self.single, *self.paired)]

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The results, from position `start` on.

        Pairs come last, joined over all sources of pairs. To do that with little memory they are read twice: first to count how
        many belong together, so that each group can be joined, and forgotten, when the last of them has come.
        """
        for source in self.single:
            for unit in self._followed(source):
                position, self.records = self.records, self.records + unit.rows
                if position >= start:
                    for result in _placed(source, unit):
                        yield Row(position, result)
        offset = self.records
        sizes = self._group_sizes()
        skipped = max(0, start - offset)
        for position, joined in enumerate(islice(self._joined(sizes), skipped, None), start=offset + skipped):
            yield Row(position, joined)

    def _group_sizes(self) -> Counter[int]:
        """How many pairs each prompt and labeler have, by a hash of these."""
        sizes = Counter[int]()
        for source in self.paired:
            for unit in self._followed(source):
                self.records += unit.rows
                sizes.update(hash(_group(result)) for result in source.results(unit) if _is_pair(result))
        return sizes

    def _joined(self, sizes: Counter[int]) -> Iterator[Judged | Contradiction | Dropped | None]:
        groups: dict[tuple[str, str], list[Judged]] = defaultdict(list)
        for source in self.paired:
            for unit in self._followed(source):
                for result in _placed(source, unit):
                    if not isinstance(result, Judged) or not _is_pair(result.ranking):
                        yield result
                        continue
                    group = _group(result.ranking)
                    groups[group].append(result)
                    if len(groups[group]) == sizes[hash(group)]:
                        yield from join(groups.pop(group))
        for pairs in groups.values():  # two groups with one hash
            yield from join(pairs)

    def _followed(self, source: "_OpenedSource") -> Iterator["_Unit"]:
        """The records of a source; moves the bar."""
        for number, unit in enumerate(source.units(), start=1):
            yield unit
            if self._bar and number % _RECORDS_BETWEEN_UPDATES == 0:
                done = min(self._done + source.records.done, self._total - 1)  # the whole is shown once, at the end
                self._bar.update(done, f"{self.records:,} records")
        self._done += source.records.total
        if self._bar:
            self._bar.update(self._done, f"{self.records:,} records")


class _Unit(NamedTuple):
    """A record, or the rows of a table that are one record together."""

    line: int  # of the first row
    rows: int
    record: Record


class _OpenedSource:
    """A source, and how its records are read."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.records = Records(source.source)
        self.canonical = source.format == AUTO and source.columns is None
        self.format = _format(source)
        rankings: Callable[..., Iterator[dict[str, Any]]] = self.format.rankings
        self.rankings = partial(rankings, higher_is_better=True) if source.higher_is_better else rankings

    def identity(self) -> list[Any]:
        return [self.source.model_dump(mode="json"), *self.records.identity()]

    def units(self) -> Iterator[_Unit]:
        """The records; of a table that has one response in a row, the rows of each prompt together."""
        if isinstance(self.format, Columns) and self.format.response is not None:
            return _gathered(iter(self.records), self.format, self._values)
        return (_Unit(line, 1, record) for line, record in self.records)

    def _values(self, record: bytes | Mapping[str, Any]) -> Mapping[str, Any]:
        """The values of a record; in a table, whose cells are texts, lists and chats are written as JSON. Raises ValueError."""
        values = parse_record(record) if isinstance(record, bytes) else record
        if not self.records.is_table:
            return values
        return cells(values) if self.canonical else {name: read_from_json(value) for name, value in values.items()}

    def results(self, unit: _Unit) -> Iterator[Ranking | Problem]:
        """The rankings in a record, and what is wrong with it."""
        origin, record = self.records.name, unit.record
        try:
            if isinstance(record, Problem):
                yield record
            elif isinstance(record, bytes) and self.canonical:
                yield parse_ranking(record, origin)
            else:
                for fields in self.rankings(self._values(record)):
                    if getattr(self.format, "LINE_IS_ID", False):
                        fields["id"] = f"{fields.get('id') or ''}:{unit.line}"
                    yield _validated(fields, origin)
        except ValueError as error:
            yield Problem(str(error))


def _format(source: Source) -> Format:
    if source.columns is None:
        return _Canonical() if source.format == AUTO else formats.get(source.format)
    if source.format == AUTO:
        return source.columns
    return AnnotationColumns(cast(AnnotationFormat, formats.get(source.format)), source.columns)


def _gathered(
    records: Iterator[tuple[int, Record]],
    columns: Columns,
    values: Callable[[bytes | Mapping[str, Any]], Mapping[str, Any]],
) -> Iterator[_Unit]:
    """The rows of each prompt that follow each other, as one record of several responses; wrong rows by themselves."""
    rows: list[Mapping[str, Any]] = []
    first, group = 0, None

    def together() -> Iterator[_Unit]:
        if len(rows) == 1:
            yield _Unit(first, 1, Problem(_ALONE))
        elif rows:
            yield _Unit(first, len(rows), columns.gathered(rows))
        rows.clear()

    for line, record in records:
        try:
            if isinstance(record, Problem):
                raise ValueError(record.why)
            row = values(record)
            if (own := columns.group(row)) != group or len(rows) == _MAX_GATHERED:
                yield from together()
                first, group = line, own
            rows.append(row)
        except ValueError as error:
            yield from together()
            group = None
            yield _Unit(line, 1, Problem(str(error)))
    yield from together()


class _Canonical:
    PAIRS = False

    def rankings(self, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield dict(record)


def _validated(values: dict[str, Any], origin: str) -> Ranking | Problem:
    """The ranking, or what is wrong with it; other rankings of the record are not affected."""
    try:
        return ranking(values if values.get("origin") else {**values, "origin": origin})
    except ValueError as error:
        return Problem(str(error))


def _placed(source: _OpenedSource, unit: _Unit) -> Iterator[Judged | Dropped | None]:
    """The results of a record with its place; None if nothing is ranked in it."""
    is_empty = True
    for result in source.results(unit):
        is_empty = False
        if isinstance(result, Ranking):
            yield Judged(result, (Place(source.source.source, unit.line),))
        else:
            yield Dropped(file=source.source.source, line=unit.line, why=result.why)
    if is_empty:
        yield None


def _is_pair(result: Ranking | Problem) -> TypeGuard[Ranking]:
    return isinstance(result, Ranking) and len(result.responses) == 2


def _group(pair: Ranking) -> tuple[str, str]:
    return pair.prompt, pair.labeler
