"""Answers to any questions of an annotation tool, each annotation read as a row by a mapping of columns.

A row has the task's data and the answers, under the names of the questions; the labeler, the time and the id come with it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from data.comparisons.importing.columns import Columns


class Annotation(NamedTuple):
    """What one annotator answered about one task."""

    row: dict[str, Any]
    judged_by: dict[str, Any]  # labeler, time and id, as a ranking has them
    at: str  # where it is in the export


class AnnotationFormat(Protocol):
    """What a module of data/comparisons/formats has whose exports can be read by a mapping of columns."""

    def annotations(self, record: Mapping[str, Any]) -> Iterator[Annotation]:
        """The submitted annotations in one record of an export."""
        ...


class AnnotationColumns:
    """A format of an annotation tool, read by a mapping of columns."""

    def __init__(self, format: AnnotationFormat, columns: Columns) -> None:
        self.format, self.columns = format, columns
        self.PAIRS = columns.is_pair and columns.join_pairs  # their labeler is known

    def rankings(self, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The rankings in a record; those of a wrong annotation come after the others, as an error.

        An annotator who left a question out has not judged: there is no ranking then, nor where only one response was rated.
        """
        unanswered = dict.fromkeys(name for name in self.columns.judgments() if name[0] != "=" and "." not in name)
        problems = []
        for row, judged_by, at in self.format.annotations(record):
            mine = {k: v for k, v in judged_by.items() if v is not None and getattr(self.columns, k) is None}
            try:
                rankings = list(self.columns.rankings({**unanswered, **row}))
            except ValueError as error:
                problems.append(f"{at}: {error}")
                continue
            for ranking in rankings:
                if len(ranking["ranks"]) - ranking["ranks"].count(None) >= 2:
                    yield {**ranking, **mine}
        if problems:
            raise ValueError("; ".join(problems))
