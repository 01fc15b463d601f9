"""OpenAI WebGPT comparisons: two answers to a question, ties kept.

A record is {"question": {"dataset", "id", "full_text"}, "answer_0", "score_0", "quotes_0", "tokens_0" and the same with _1}. The
scores sum to 0; the answer with the positive one was preferred, and both are 0 for a tie. The labelers are not named, so the
labeler is "webgpt". The quotes differ between the answers and are not part of the prompt.

https://huggingface.co/datasets/openai/webgpt_comparisons
"""

from collections.abc import Iterator, Mapping
from typing import Any

from data.comparisons.importing.fields import field

PAIRS = True


def rankings(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The one pair of a record."""
    first, second = (field(record, key, float) for key in ("score_0", "score_1"))
    if not abs(first + second) < 1e-6:  # also where one is NaN
        raise ValueError(f"score_0 and score_1: {first} and {second} found, numbers that sum to 0 expected")
    yield {
        "prompt": field(field(record, "question", dict), "full_text", str, "question."),
        "responses": [field(record, key, str) for key in ("answer_0", "answer_1")],
        "ranks": [1 if first >= 0 else 2, 1 if second >= 0 else 2],
        "labeler": "webgpt",
    }
