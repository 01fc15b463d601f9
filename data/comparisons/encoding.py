"""Rankings as token ids: what a reward model reads of a comparison collection."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import datasets
import numpy as np
from tokenizers import Tokenizer

from data.templates import template_fields
from data.tokenizer import encode

Weighting = Literal["none", "record", "labeler"]
FIELDS = {"prompt", "reference"}


@dataclass(frozen=True)
class Frame:
    """How a prompt and a response become one text: before, prompt, between, response, after."""

    template: str  # the prompt's text; its fields are {prompt} and {reference}
    before: list[int]  # token ids
    between: list[int]
    after: list[int]  # its last token is where the reward is read

    def as_json(self) -> dict[str, Any]:
        """What `Frame(**values)` takes back."""
        return asdict(self)

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


def encode_rankings(
    rows: datasets.Dataset, tokenizer: Tokenizer, frame: Frame, weighting: Weighting = "none", max_length: int = 0
) -> tuple[list[EncodedRanking], np.ndarray]:
    """The rankings as token ids, and the indices of their rows.

    Left out are rankings with a text (prompt and response) of more than `max_length`, 0 being no limit, and those
    without the reference that the frame's template asks for.

    `weighting`: all 1; the record's own weight; or such that every labeler's rankings weigh the same together. The mean is 1.
    """
    needs_reference = "reference" in template_fields(frame.template)
    kept = np.array([i for i, r in enumerate(rows["reference"]) if r or not needs_reference], np.int64)
    rows = rows.select(kept)
    prompts = frame.prompts(tokenizer, [dict(row) for row in rows.select_columns(["prompt", "reference"])])
    sizes = [len(r) for r in rows["responses"]]
    flat = iter(frame.responses(tokenizer, [text for responses in rows["responses"] for text in responses]))
    weights = _weights(rows, weighting)
    encoded = [
        EncodedRanking(prompt, [next(flat) for _ in range(k)], [r or 0 for r in ranks], weight)
        for prompt, k, ranks, weight in zip(prompts, sizes, rows["ranks"], weights, strict=True)
    ]
    short = [
        i for i, r in enumerate(encoded) if not max_length or len(r.prompt) + max(map(len, r.responses)) <= max_length
    ]
    return [encoded[i] for i in short], kept[short]


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
