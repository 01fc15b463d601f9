"""Rankings as token ids: what a reward model reads of a comparison collection."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import datasets
import numpy as np
from tokenizers import Tokenizer

from data.comparisons.encoding_config import Weighting
from data.overlong import Overlong
from data.templates import template_fields
from data.tokenizer import encode


@dataclass(frozen=True)
class Frame:
    """How a prompt and a response become one text: before, prompt, between, response, after."""

    template: str  # the prompt's text; its fields are {prompt} and {reference}
    before: list[int]  # token ids
    between: list[int]
    after: list[int]  # its last token is where the reward is read

    def prompts(self, tokenizer: Tokenizer, rows: Sequence[dict[str, Any]]) -> list[list[int]]:
        """Token ids of the prompts of records with `prompt` and, where the template asks for it, `reference`.

        Raises:
            ValueError: the template asks for a reference and a record has none.
        """
        if "reference" in template_fields(self.template) and not all(row.get("reference") for row in rows):
            raise ValueError(f"the model's template {self.template!r} needs a reference, and a record has none")
        texts = [self.template.format(prompt=row["prompt"], reference=row.get("reference")) for row in rows]
        return [[*self.before, *ids, *self.between] for ids in encode(tokenizer, texts)]

    def responses(self, tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
        """Token ids of responses."""
        return [[*ids, *self.after] for ids in encode(tokenizer, texts)]


@dataclass(frozen=True)
class EncodedRanking:
    """One ranking as token ids: the batch element."""

    prompt: list[int]
    responses: list[list[int]]
    ranks: list[int]  # 1 is best, equal ones are ties, 0 is not ranked
    weight: float = 1.0

    def __len__(self) -> int:
        """Tokens that a model reads of it."""
        return len(self.prompt) + sum(map(len, self.responses))


class EncodedRankings(NamedTuple):
    """Rankings as token ids, and how many of the collection's rankings are not as they were."""

    rankings: list[EncodedRanking]
    indices: np.ndarray  # of the rankings' rows
    without_reference: int  # rankings without the reference that the frame's template asks for; they are left out
    dropped: int  # rankings that are left out because they are too long
    truncated: int  # rankings with a response whose end was cut off


def encode_rankings(
    rows: datasets.Dataset,
    tokenizer: Tokenizer,
    frame: Frame,
    weighting: Weighting = "none",
    max_length: int | None = None,
    overlong: Overlong = "drop",
) -> EncodedRankings:
    """The rankings as token ids.

    Args:
        weighting: all weights are 1 ("none"), the record's own ("record"), or such that every labeler's rankings weigh the same
            together ("labeler"). The mean is 1.
        max_length: tokens of a prompt and one response of it at most; None: no limit.
        overlong: what happens to rankings with a longer text: "drop", or "truncate", which cuts the end of responses, never of
            the prompt. A ranking whose prompt leaves no room for a token of a response is dropped.
    """
    needs_reference = "reference" in template_fields(frame.template)
    complete = np.array([i for i, reference in enumerate(rows["reference"]) if reference or not needs_reference], int)
    without_reference = len(rows) - len(complete)
    rows = rows.select(complete)
    prompts = frame.prompts(tokenizer, [dict(row) for row in rows.select_columns(["prompt", "reference"])])
    sizes = [len(r) for r in rows["responses"]]
    responses = iter(frame.responses(tokenizer, [text for texts in rows["responses"] for text in texts]))
    weights = _weights(rows, weighting)
    encoded = [
        EncodedRanking(prompt, [next(responses) for _ in range(size)], [rank or 0 for rank in ranks], weight)
        for prompt, size, ranks, weight in zip(prompts, sizes, rows["ranks"], weights, strict=True)
    ]
    shortened = [_within(ranking, max_length, overlong, frame.after) for ranking in encoded]
    indices = [i for i, ranking in enumerate(shortened) if ranking is not None]
    return EncodedRankings(
        [ranking for ranking in shortened if ranking is not None],
        complete[indices],
        without_reference,
        dropped=len(encoded) - len(indices),
        truncated=sum(shortened[i] is not encoded[i] for i in indices),
    )


def _within(
    ranking: EncodedRanking, max_length: int | None, overlong: Overlong, after: list[int]
) -> EncodedRanking | None:
    """The ranking if it is short enough; else with its responses cut before `after`, or None where it is dropped."""
    room = (max_length or sys.maxsize) - len(ranking.prompt)
    if max(map(len, ranking.responses)) <= room:
        return ranking
    if overlong == "drop" or room <= len(after):
        return None
    cut = room - len(after)
    return replace(ranking, responses=[r if len(r) <= room else [*r[:cut], *after] for r in ranking.responses])


def _weights(rows: datasets.Dataset, weighting: Weighting) -> list[float]:
    match weighting:
        case "record":
            raw = np.array(rows["weight"], float)
        case "labeler":
            counts = Counter(rows["labeler"])
            raw = np.array([1 / counts[labeler] for labeler in rows["labeler"]])
        case _:
            raw = np.ones(len(rows))
    weights: list[float] = (raw / raw.mean()).tolist() if len(raw) else []
    return weights
