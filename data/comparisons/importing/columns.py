"""Columns of other names: a mapping from the fields of a ranking to the columns of any table, hub data set or JSON Lines file.

{prompt: question, chosen: answer_a, rejected: answer_b}         a pair
{prompt: question, responses: completions, scores: ratings}      lists; higher scores are better, equal ones tie
{prompt: question, responses: [a, b, c], ranks: [ra, rb, rc]}    one column for each response
{..., labeler: meta.annotator}                                   inside a nested column
{..., labeler: =gpt-4}                                           a text of its own instead of a column

Prompt and responses may be lists of messages, in the shapes that TRL and the hub have (https://huggingface.co/docs/trl/dataset_formats).
Such a response ends with its own message, by "assistant". The turns before that are one of

- none: it answers the prompt
- the prompt's messages, or the last of them: it repeats what it answers
- the prompt's messages and further turns, or these turns alone, which then belong to the conversation
- the whole conversation, where the prompt is a text, or there is none

All responses of a row must answer the same conversation, and a text beside it must say no more than it does. The row is refused where
anything would be lost.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any, NamedTuple

from pydantic import model_validator

from core.config import Config, validated
from core.errors import InputError
from data.comparisons.ranking import Message, read_messages, written_out

UNKNOWN = "unknown"  # the labeler where no column names one
_ASSISTANT, _USER, _SYSTEM = "assistant", "user", "system"
_LISTS = ("responses", "ranks", "scores", "systems", "messages")


class Columns(Config):
    """Which column, or columns, each field of a ranking is read from."""

    prompt: str | None = None
    """The prompt: a text, or a list of messages."""
    messages: str | None = None
    """The prompt as a chat: a list of messages (`role`, `content`)."""
    responses: str | list[str] | None = None
    """One column with a list of responses, or one column for each response. A response is a text or a list of messages."""
    ranks: str | list[str] | None = None
    """The responses' ranks, in the same way: 1 is the best, equal ranks are ties."""
    scores: str | list[str] | None = None
    """The responses' scores, instead of ranks: the highest is the best, equal scores are ties."""
    chosen: str | None = None
    """Of a pair: the better response."""
    rejected: str | None = None
    """Of a pair: the worse response."""
    labeler: str | None = None
    """Who ranked. `null`: `unknown`, and pairs of one prompt are not joined."""
    reference: str | None = None
    """A good response, for templates that show it."""
    systems: str | list[str] | None = None
    """Which system wrote each response."""
    time: str | None = None
    """When it was ranked, ISO 8601."""
    weight: str | None = None
    """The ranking's weight in training, with `weighting: record`."""
    id: str | None = None
    """Tells apart two rankings of the same responses by the same labeler."""

    @model_validator(mode="after")
    def _states_an_order(self) -> "Columns":
        pair = [self.chosen, self.rejected].count(None)
        if pair == 1:
            raise ValueError("'chosen' and 'rejected' go together")
        if (pair == 0) == (self.responses is not None):
            raise ValueError("columns for either 'chosen' and 'rejected', or 'responses', are needed")
        if self.responses is not None and (self.ranks is None) == (self.scores is None):
            raise ValueError("'responses' need either 'ranks' (1 is best) or 'scores' (higher is better)")
        if pair == 0 and (self.ranks or self.scores):
            raise ValueError("'chosen' and 'rejected' say the order: 'ranks' and 'scores' go with 'responses'")
        return self

    @property
    def PAIRS(self) -> bool:  # as the modules of data/comparisons/formats say it
        """Whether these are pairs whose labeler is known: only then may pairs of one prompt be joined."""
        return self.chosen is not None and self.labeler is not None

    def rankings(self, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The values of the one canonical record in a row.

        Raises:
            ValueError: a column is missing, a value is wrong, or messages cannot all be kept.
        """
        values = {name: _read(record, source) for name, source in self if source is not None}
        values.setdefault("labeler", UNKNOWN)
        if isinstance(values.get("messages"), str):
            values["messages"] = _listed(values["messages"], "messages")
        prompt, messages = (_Cell(str(getattr(self, name)), values.pop(name, None)) for name in ("prompt", "messages"))
        values |= _chat(prompt, messages, self._responses(values))
        if self.scores is not None:
            values["ranks"] = ranks_of_scores(_listed(values.pop("scores"), "scores"))
        elif self.ranks is not None:
            values["ranks"] = [_rank(r) for r in _listed(values["ranks"], "ranks")]
        if values.get("systems") is not None:
            values["systems"] = [[s] if isinstance(s, str) else s for s in values["systems"]]
        for name in ("labeler", "id"):  # often numbers
            if isinstance(values.get(name), int):
                values[name] = str(values[name])
        if isinstance(values.get("time"), datetime):
            values["time"] = values["time"].isoformat()
        yield values

    def _responses(self, values: dict[str, Any]) -> list["_Cell"]:
        """Takes the responses out of `values`; those of a pair leave their ranks there."""
        if self.chosen is not None:
            values["ranks"] = [1, 2]
            return [_Cell(str(getattr(self, name)), values.pop(name)) for name in ("chosen", "rejected")]
        responses = _listed(values.pop("responses"), "responses")
        if isinstance(self.responses, list):
            return [_Cell(*cell) for cell in zip(self.responses, responses, strict=True)]
        return [_Cell(f"{self.responses}.{i}", value) for i, value in enumerate(responses)]


def parse_columns(text: str) -> Columns:
    """`prompt=question,responses=a+b,ranks=ra+rb`, or a JSON object, as Columns. Raises InputError."""
    where = "--columns"
    if text.lstrip().startswith("{"):
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
        return validated(Columns, fields, where)
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, source = part.strip().partition("=")
        if not equals or not source:
            raise InputError(f"{where}: {part.strip()!r}: FIELD=COLUMN expected, e.g. prompt=question")
        values[name] = source.split("+") if "+" in source and not source.startswith("=") else source
    return validated(Columns, values, where)


def cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a CSV file with the canonical names: lists are written as JSON, empty cells are absent."""
    values: dict[str, Any] = {k: v for k, v in row.items() if v != ""}
    for name in {*_LISTS, "weight"} & set(values):
        values[name] = _json(values[name], name)
    return values


def ranks_of_scores(scores: list[Any]) -> list[int | None]:
    """Ranks 1, 2, ... of the distinct scores, the highest first; None where there is no score."""
    numbers = [None if s in (None, "") else _number(s) for s in scores]
    rank = {s: i for i, s in enumerate(sorted({s for s in numbers if s is not None}, reverse=True), start=1)}
    return [None if s is None else rank[s] for s in numbers]


def _read(record: Mapping[str, Any], source: str | list[str]) -> Any:
    if isinstance(source, list):
        return [_read(record, s) for s in source]
    if source.startswith("="):
        return source[1:]
    if source in record:  # also a column that has a dot in its name
        return record[source]
    value: Any = record
    for part in source.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ValueError(f"no column '{source}'; there are: {', '.join(map(str, record))}"[:300])
        value = value[part]
    return value


def _listed(value: Any, name: str) -> list[Any]:
    if isinstance(value, str):  # a CSV cell
        value = _json(value, name)
    if not isinstance(value, list):
        raise ValueError(f"{name}: a list expected (found {str(value)[:60]!r})")
    return value


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}: not JSON ({error.msg} at column {error.colno})") from None


def _rank(value: Any) -> Any:
    """A rank as tables write it: `"2"` in CSV, `2.0` where a column has gaps."""
    if value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"scores: a number expected (found {str(value)[:60]!r})") from None
    if not math.isfinite(number):
        raise ValueError(f"scores: a finite number expected (found {value!r})")
    return number


class _Cell(NamedTuple):
    """A value of a row, with the name of its column, for errors."""

    column: str
    value: Any


class _Answer(NamedTuple):
    column: str
    conversation: list[Message]  # that it answers
    text: Any


def _chat(prompt: _Cell, messages: _Cell, responses: Sequence[_Cell]) -> dict[str, Any]:
    """The `messages` of a row, or else its `prompt`, and its `responses` as texts.

    A prompt or response that is neither a text nor a list is handed on: the validation of the record refuses it.
    """
    asked = _asked(messages, prompt)
    answers = [_answer(cell, asked) for cell in responses]
    for answer in answers[1:]:
        _check_same(answers[0], answer)
    values: dict[str, Any] = {"responses": [answer.text for answer in answers]}
    conversation = answers[0].conversation if answers else asked
    if conversation:
        values["messages"] = conversation
    if conversation and isinstance(prompt.value, str):
        _check_text(prompt, conversation)
    elif prompt.value is not None and not isinstance(prompt.value, list):
        values["prompt"] = prompt.value
    return values


def _asked(messages: _Cell, prompt: _Cell) -> list[Message]:
    """The messages that the row itself has as its prompt; none where that is a text."""
    chats = [read_messages(messages.value, messages.column)] if messages.value is not None else []
    if isinstance(prompt.value, list):
        chats.append(read_messages(prompt.value, prompt.column))
    if len(chats) == 2 and chats[0] != chats[1]:
        raise ValueError(
            f"{messages.column} and {prompt.column}: different messages found, one conversation expected: leave one column out"
        )
    return chats[0] if chats else []


def _answer(cell: _Cell, asked: list[Message]) -> _Answer:
    if not isinstance(cell.value, list):
        return _Answer(cell.column, asked, cell.value)
    turns = read_messages(cell.value, cell.column)
    if not turns or turns[-1].role != _ASSISTANT:
        raise ValueError(
            f"{cell.column}: the last message is {_shown(turns[-1] if turns else None)}, a response by 'assistant' expected"
        )
    return _Answer(cell.column, _conversation(cell.column, turns[:-1], asked), turns[-1].content)


def _conversation(column: str, before: list[Message], asked: list[Message]) -> list[Message]:
    if before[: len(asked)] == asked:
        return before
    if before == asked[len(asked) - len(before) :]:
        return asked
    if before[0] == asked[0] or before[0].role in (asked[-1].role, _SYSTEM):  # no turn that follows the prompt's last
        raise ValueError(
            f"{column}: the first message is {_shown(before[0])}, the prompt's messages ({_shown(asked[0])}, ...) or a reply to them "
            "expected: leave the prompt's column out where these are the whole conversation"
        )
    return [*asked, *before]


def _check_same(first: _Answer, other: _Answer) -> None:
    for i, (one, two) in enumerate(zip_longest(first.conversation, other.conversation)):
        if one != two:
            raise ValueError(
                f"{first.column} and {other.column} answer different messages: message {i} of the conversation is {_shown(one)} and "
                f"{_shown(two)}, the same turns before the last expected"
            )


def _check_text(prompt: _Cell, conversation: list[Message]) -> None:
    """A text may be the conversation written out, or the question in it; the conversation is kept."""
    question = next((message for message in reversed(conversation) if message.role == _USER), None)
    same_texts = [written_out(conversation), *([question.content] if question else [])]
    if prompt.value.strip() not in [text.strip() for text in same_texts]:
        raise ValueError(
            f"{prompt.column}: {prompt.value[:40]!r} found, the last message by 'user' expected ({_shown(question)}), or all messages "
            "written out: leave this column out where the messages are the whole conversation"
        )


def _shown(message: Message | None) -> str:
    return repr(f"{message.role}: {message.content}"[:40]) if message else "missing"
