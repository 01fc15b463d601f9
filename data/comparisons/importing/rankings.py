"""From files of any format to a collection: read, validate, join pairs, store what is new, and say what became of every record."""

from collections.abc import Sequence
from pathlib import Path

from core.errors import InputError
from data.comparisons.importing.appending import Appending, appending
from data.comparisons.importing.joining import Judged
from data.comparisons.importing.reading import NewBar, Reading
from data.comparisons.importing.report import SHOWN, ImportReport
from data.comparisons.importing.source import Source


def import_rankings(
    sources: Sequence[Source], folder: Path, strict: bool = False, bar: NewBar | None = None
) -> ImportReport:
    """Adds the rankings of all sources to the collection in `folder`, which is made if it is not there.

    Wrong records are dropped and reported; if `strict`, they refuse the whole import. (Contradictions are no wrong records.)
    What the collection holds is not added again. An import that was killed continues where it was when it is called again with
    the same, unchanged sources.

    Raises:
        InputError: a source cannot be read; `strict` and a record is wrong; there is no ranking; see also `appending`.
    """
    reading = Reading(sources, bar)
    with appending(folder, [reading.identity(), strict]) as into:
        report = ImportReport.model_validate(into.notes or {})
        if not into.finished:
            _store(reading, into, report, strict)
            report.files, report.rows = [s.source for s in sources], reading.records
            if not report.kept + report.already_there:
                raise InputError("\n".join([_why_empty(report), *report.problems()]))
            into.checkpoint(0, report.model_dump(), finished=True)
    return report


def _store(reading: Reading, into: Appending, report: ImportReport, strict: bool) -> None:
    last = into.position
    for row in reading.rows(into.position):
        if into.shards.full and row.position != last:  # all of every record before this one is in the shard
            into.checkpoint(row.position, report.model_dump())
        last = row.position
        if isinstance(row.result, Judged):
            report.note_ranking(row.result, into.add(row.result.ranking))
        else:
            report.note(row.result)
            if strict and len(report.dropped) >= SHOWN:
                break
    if strict and report.dropped:
        more = ["(further records not read)"] if len(report.dropped) >= SHOWN else []
        end = "Nothing was imported. Fix or remove these records and import again."
        raise InputError("\n".join([*map(str, report.dropped), *more, end]))


def check_rankings(sources: Sequence[Source], bar: NewBar | None = None) -> ImportReport:
    """Reads as `import_rankings` does and stores nothing: every ranking counts as kept."""
    reading, report = Reading(sources, bar), ImportReport(files=[s.source for s in sources])
    for row in reading.rows():
        if isinstance(row.result, Judged):
            report.note_ranking(row.result, "kept")
        else:
            report.note(row.result)
    report.rows = reading.records
    return report


def _why_empty(report: ImportReport) -> str:
    files = ", ".join(report.files)
    if not report.rows:
        return f"{files}: the file is empty. Put one ranking on each line (see gradus comparisons import --help)."
    return f"{files}: no ranking in {report.rows:,} records. Is the format right? (gradus comparisons import --help lists them)"
