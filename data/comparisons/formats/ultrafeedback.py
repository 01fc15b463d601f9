"""UltraFeedback: four completions of an instruction, rated by GPT-4; equal ratings tie.

A record is {"source", "instruction", "models", "correct_answers", "incorrect_answers", "completions": [{"model", "principle",
"custom_system_prompt", "response", "annotations": {ASPECT: {"Rating": "1" to "5" or "N/A", "Rationale", ...}}, "critique",
"fine-grained_score", "overall_score"}, ...]}. Completions are ranked by `fine-grained_score`, the mean of the aspects' ratings; it is
computed where a release lacks it. `overall_score` is not used: the first release had it wrong for thousands of completions (see
its README). A completion without any rating is "not ranked". The system prompts differ between the completions and are not part of
the prompt. A model judged, no person, so the labeler is "gpt-4".

https://huggingface.co/datasets/openbmb/UltraFeedback
https://github.com/OpenBMB/UltraFeedback#dataset-format
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from data.comparisons.importing.fields import Answer, distinct, entries, field, optional, what_was_found

PAIRS = False


def rankings(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The one ranking of a record."""
    answers = distinct(
        Answer(field(completion, "response", str, at), _score(completion, at), (field(completion, "model", str, at),))
        for completion, at in entries(record, "completions")
    )
    scores = [a.judgment for a in answers if a.judgment is not None]
    yield {
        "prompt": field(record, "instruction", str),
        "responses": [a.text for a in answers],
        "ranks": [None if a.judgment is None else 1 + sum(s > a.judgment for s in scores) for a in answers],
        "labeler": "gpt-4",
        "reference": _reference(record),
        "systems": [a.systems for a in answers],
    }


def _score(completion: Mapping[str, Any], at: str) -> float | None:
    score = optional(completion, "fine-grained_score", float, at)
    if score is not None and math.isfinite(score):
        return score
    ratings = []
    for aspect, annotation in (optional(completion, "annotations", dict, at) or {}).items():
        where = f"{at}annotations.{aspect}"
        if not isinstance(annotation, dict):
            raise ValueError(f"{where}: {what_was_found(annotation)}, an object expected")
        rating = field(annotation, "Rating", str, f"{where}.")
        if rating not in ("1", "2", "3", "4", "5", "N/A"):
            raise ValueError(f"{where}.Rating: {what_was_found(rating)}, '1' to '5' or 'N/A' expected")
        if rating != "N/A":
            ratings.append(int(rating))
    return sum(ratings) / len(ratings) if ratings else None


def _reference(record: Mapping[str, Any]) -> str | None:
    correct = optional(record, "correct_answers", list) or [None]
    has_answer = isinstance(correct[0], str) and correct[0].strip() not in (
        "",
        "None",
    )  # ["None"] where the source has none
    return correct[0] if has_answer else None
