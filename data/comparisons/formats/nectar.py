"""Berkeley Nectar: seven answers to a chat prompt, ranked by GPT-4.

A record is {"prompt": TRANSCRIPT, "answers": [{"answer", "model", "rank"}, ...], "turns", "num_responses", "source",
"good_natured"}. The transcript is that of hh-rlhf and ends with "Assistant:"; ranks are whole numbers stored as floats, 1 the
best. A model judged, no person, so the labeler is "gpt-4".

https://huggingface.co/datasets/berkeley-nest/Nectar
"""

from collections.abc import Iterator, Mapping
from typing import Any

from data.comparisons.formats.hh_rlhf import conversation
from data.comparisons.importing.fields import Answer, distinct, entries, field, optional

PAIRS = False


def rankings(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The one ranking of a record."""
    *messages, last = conversation(record, "prompt")
    if not messages or last != {"role": "assistant", "content": ""}:
        raise ValueError("prompt: turns, the last of them '\\n\\nAssistant:' and no more, expected")
    answers = distinct(_answer(answer, at) for answer, at in entries(record, "answers"))
    yield {
        "messages": messages,
        "responses": [a.text for a in answers],
        "ranks": [a.judgment for a in answers],
        "labeler": "gpt-4",
        "systems": [a.systems for a in answers],
    }


def _answer(answer: Mapping[str, Any], at: str) -> Answer:
    rank = field(answer, "rank", float, at)
    if not float(rank).is_integer():
        raise ValueError(f"{at}rank: {rank} found, a whole number expected")
    model = optional(answer, "model", str, at)
    return Answer(field(answer, "answer", str, at), int(rank), (model,) if model else ())
