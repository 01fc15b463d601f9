"""The chat in a row of a table: one conversation that all responses answer, from columns of texts and of lists of messages.

A response is a text, or a list of messages that ends with it, by "assistant". The turns before it are one of

- none: it answers the prompt
- the prompt's messages, or the last of them: it repeats what it answers
- the prompt's messages and further turns, or these turns alone, which then belong to the conversation
- the whole conversation, where the prompt is a text, or there is none

All responses of a row must answer the same conversation. A text beside it must say no more than it does. What would be lost otherwise
refuses the row: TRL and the hub have all of these shapes (https://huggingface.co/docs/trl/dataset_formats).
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from data.comparisons.ranking import Message, read_messages, written_out

_ASSISTANT, _USER, _SYSTEM = "assistant", "user", "system"


class Cell(NamedTuple):
    """A value of a row, with its column's name for messages."""

    column: str
    value: Any


class _Answer(NamedTuple):
    column: str
    conversation: list[Message]  # that it answers
    text: Any


def chat(prompt: Cell, messages: Cell, responses: Sequence[Cell]) -> dict[str, Any]:
    """The `messages` of a row, or else its `prompt`, and its `responses` as texts.

    A prompt or response that is neither a text nor a list is handed on: the validation of the record refuses it.

    Raises:
        ValueError: one line that names the column with messages that are wrong, differ, or cannot all be kept.
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


def _asked(messages: Cell, prompt: Cell) -> list[Message]:
    """The messages that the row itself has as its prompt; none where that is a text."""
    chats = [read_messages(messages.value, messages.column)] if messages.value is not None else []
    if isinstance(prompt.value, list):
        chats.append(read_messages(prompt.value, prompt.column))
    if len(chats) == 2 and chats[0] != chats[1]:
        raise ValueError(
            f"{messages.column} and {prompt.column}: different messages found, one conversation expected: leave one column out"
        )
    return chats[0] if chats else []


def _answer(cell: Cell, asked: list[Message]) -> _Answer:
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


def _check_text(prompt: Cell, conversation: list[Message]) -> None:
    """A text may be the conversation written out, or the question in it; the conversation is kept."""
    question = next((message for message in reversed(conversation) if message.role == _USER), None)
    known = [written_out(conversation), *([question.content] if question else [])]
    if prompt.value.strip() not in [text.strip() for text in known]:
        raise ValueError(
            f"{prompt.column}: {prompt.value[:40]!r} found, the last message by 'user' expected ({_shown(question)}), or all messages "
            "written out: leave this column out where the messages are the whole conversation"
        )


def _shown(message: Message | None) -> str:
    return repr(f"{message.role}: {message.content}"[:40]) if message else "missing"
