"""Anthropic hh-rlhf: pairs of transcripts, `chosen` before `rejected`.

A record is {"chosen": TRANSCRIPT, "rejected": TRANSCRIPT}. A transcript is turns that begin with a blank line and "Human:" or
"Assistant:"; both are the same conversation up to the last turn, which is the response. The crowdworkers who chose are not
named, so the labeler is "hh-rlhf".

https://huggingface.co/datasets/Anthropic/hh-rlhf
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from data.comparisons.importing.fields import field

PAIRS = True

_ROLES = {"Human": "user", "Assistant": "assistant"}
_SPEAKER = re.compile(rf"\n\n({'|'.join(_ROLES)}):")


def rankings(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The one pair of a record."""
    chosen, rejected = (conversation(record, key) for key in ("chosen", "rejected"))
    for key, turns in (("chosen", chosen), ("rejected", rejected)):
        if turns[-1]["role"] != "assistant":
            raise ValueError(f"{key}: the last turn is the Human's, a response of the Assistant expected")
        if not turns[-1]["content"]:
            raise ValueError(f"{key}: the last turn is empty, a response of the Assistant expected")
    if chosen[:-1] != rejected[:-1]:
        raise ValueError("chosen and rejected differ before the last turn: they are not responses to the same prompt")
    if not chosen[:-1]:
        raise ValueError("chosen: a single turn, a prompt before it expected")
    yield {
        "messages": chosen[:-1],
        "responses": [chosen[-1]["content"], rejected[-1]["content"]],
        "ranks": [1, 2],
        "labeler": "hh-rlhf",
    }


def conversation(record: Mapping[str, Any], key: str) -> list[dict[str, str]]:
    """The turns of the transcript `record[key]`, at least one, as messages of "user" and "assistant".

    Raises:
        ValueError: it is no text, or does not begin with a turn.
    """
    start, *turns = _SPEAKER.split(field(record, key, str))
    if start.strip() or not turns:
        raise ValueError(f"{key}: begins with {start[:40]!r}, '\\n\\nHuman:' expected")
    return [
        {"role": _ROLES[speaker], "content": text.strip()}
        for speaker, text in zip(turns[::2], turns[1::2], strict=True)
    ]
