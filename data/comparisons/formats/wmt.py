"""WMT manual evaluation: translations of a sentence ranked by one labeler, ties kept.

A record is {"id", "source_language", "prompt", "reference", "labeler", "responses": [{"systems", "text", "rank"}, ...]}: a
ranking of WMT's evaluation joined with the texts of its test set. Outputs that are alike but for white space at their ends are one
response of all their systems.

The CSV that WMT itself publishes (srclang, trglang, srcIndex, ..., judgeId, system1Id, system1rank, ...) has no texts and is
refused. `gradus data fetch wmt15` makes this format of WMT15's files.

https://www.statmt.org/wmt15/results.html
https://www.statmt.org/wmt12/results.html (README.txt: the columns of the CSV)
"""

from collections.abc import Iterator, Mapping
from typing import Any

from data.comparisons.importing.fields import Answer, distinct, entries, field, optional, what_was_found

PAIRS = False
LINE_IS_ID = True  # `id` is the sentence's, and some labelers judged the same translations alike twice


def rankings(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The one ranking of a record."""
    if "system1rank" in record:
        raise ValueError(
            "WMT's own CSV has ranks but no texts: join it with the test set's sources, references and system outputs first "
            "(`gradus data fetch wmt15` does this for 2015)"
        )
    answers = distinct(
        Answer(field(response, "text", str, at), optional(response, "rank", int, at), _systems(response, at))
        for response, at in entries(record, "responses")
    )
    yield {
        "prompt": field(record, "prompt", str),
        "responses": [a.text for a in answers],
        "ranks": [a.judgment for a in answers],
        "labeler": field(record, "labeler", str),
        "reference": optional(record, "reference", str),
        "systems": [a.systems for a in answers],
        "id": optional(record, "id", str),
    }


def _systems(response: Mapping[str, Any], at: str) -> tuple[str, ...]:
    systems = optional(response, "systems", list, at) or []
    for i, system in enumerate(systems):
        if not isinstance(system, str):
            raise ValueError(f"{at}systems.{i}: {what_was_found(system)}, a text expected")
    return tuple(systems)
