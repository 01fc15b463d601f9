"""The prompt and the responses of a row: texts, or chats in the shapes that TRL and the hub have.

A response that is a list of messages ends with its own message, by "assistant". The turns before that are one of

- none: it answers the prompt
- the prompt's messages, or the last of them: it repeats what it answers
- the prompt's messages and further turns, or these turns alone, which then belong to the conversation
- the whole conversation, where the prompt is a text, or there is none

All responses of a row must answer the same conversation, and a text beside it must say no more than it does. The row is refused where
anything would be lost. Where whole conversations were judged, the prompt is what they share, and a response is all that follows.

https://huggingface.co/docs/trl/dataset_formats
"""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from data.comparisons.ranking import Message, read_messages, written_out

ASSISTANT, USER, SYSTEM = "assistant", "user", "system"


class Cell(NamedTuple):
    """A value of a row, with the name of its column, for errors."""

    column: str
    value: Any


class _Answer(NamedTuple):
    column: str
    conversation: list[Message]  # that it answers
    text: Any


def chat(prompt: Cell, messages: Cell, responses: Sequence[Cell], whole_conversations: bool = False) -> dict[str, Any]:
    """The `messages` of a row, or else its `prompt`, and its `responses` as texts.

    A prompt or response that is neither a text nor a list is handed on: the validation of the record refuses it.

    Raises:
        ValueError: messages are wrong, responses answer different ones, or something would be lost.
    """
    asked = _asked(messages, prompt)
    answers = [_answer(cell, asked) for cell in responses]
    if whole_conversations:
        answers = _parted(answers)
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


def read_from_json(text: Any) -> Any:
    """The messages that a cell of CSV has as JSON; any other value as it came."""
    if not isinstance(text, str) or not text.lstrip().startswith("["):
        return text
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_chat = isinstance(listed, list) and listed and all(isinstance(m, dict) and "role" in m for m in listed)
    return listed if is_chat else text


def with_messages(cell: Cell, speakers: Mapping[str, str]) -> Cell:
    """The cell with messages in place of a text in which a mark is before each turn.

    `speakers` has the mark of each role. What comes before the first mark is by the user. A text without marks stays a text.
    """
    text = cell.value
    if not isinstance(text, str):
        return cell
    roles = {mark: role for role, mark in speakers.items()}
    parts = re.split(f"({'|'.join(map(re.escape, roles))})", text) if roles else [text]
    if len(parts) == 1:
        return cell
    turns = [(roles[mark], part.strip()) for mark, part in zip(parts[1::2], parts[2::2], strict=True)]
    if parts[0].strip():
        turns.insert(0, (USER, parts[0].strip()))
    if turns[-1] == (ASSISTANT, ""):  # the mark that asks for the response
        turns.pop()
    return Cell(cell.column, [{"role": role, "content": content} for role, content in turns])


def interleaved(users: Cell, replies: Cell) -> Cell:
    """A conversation of the user's turns and the replies to them, each a list of texts. Raises ValueError."""
    asked, answered = users.value, replies.value
    for cell in (users, replies):
        if not isinstance(cell.value, list) or not all(turn is None or isinstance(turn, str) for turn in cell.value):
            raise ValueError(f"{cell.column}: a list of texts expected (found {str(cell.value)[:60]!r})")
    if len(asked) != len(answered) or not asked:
        raise ValueError(
            f"{replies.column}: {len(answered)} replies found, {len(asked)} expected: one to each turn of {users.column}"
        )
    turns = zip(asked, answered, strict=True)
    pairs = [((USER, question), (ASSISTANT, reply)) for question, reply in turns]
    return Cell(replies.column, [{"role": role, "content": text or ""} for pair in pairs for role, text in pair])


def first_turns(cell: Cell, count: Any) -> Cell:
    """The conversation up to the reply to the user's turn `count`, from 1. Raises ValueError: there are fewer."""
    turns = cell.value
    if not isinstance(turns, list):
        return cell
    starts = [i for i, turn in enumerate(turns) if isinstance(turn, Mapping) and turn.get("role") == USER]
    if not isinstance(count, int) or not 1 <= count <= len(starts):
        raise ValueError(f"{cell.column}: turn {count!r} was judged, and there are {len(starts)} by 'user'")
    return Cell(cell.column, turns[: starts[count]] if count < len(starts) else turns)


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
    if not turns or turns[-1].role != ASSISTANT:
        raise ValueError(
            f"{cell.column}: the last message is {_shown(turns[-1] if turns else None)}, a response by 'assistant' expected"
        )
    return _Answer(cell.column, _conversation(cell.column, turns[:-1], asked), turns[-1].content)


def _conversation(column: str, before: list[Message], asked: list[Message]) -> list[Message]:
    if before[: len(asked)] == asked:
        return before
    if before == asked[len(asked) - len(before) :]:
        return asked
    if before[0] == asked[0] or before[0].role in (asked[-1].role, SYSTEM):  # no turn that follows the prompt's last
        raise ValueError(
            f"{column}: the first message is {_shown(before[0])}, the prompt's messages ({_shown(asked[0])}, ...) or a reply to them "
            "expected: leave the prompt's column out where these are the whole conversation"
        )
    return [*asked, *before]


def _parted(answers: Sequence[_Answer]) -> list[_Answer]:
    """Conversations that part ways: what they share is answered, and all turns that follow are the response, written out."""
    texts = [answer.column for answer in answers if not isinstance(answer.text, str)]
    if texts or len(answers) < 2:
        raise ValueError(f"{', '.join(texts) or 'responses'}: two or more conversations expected")
    chats = [[*a.conversation, Message.model_construct(role=ASSISTANT, content=a.text)] for a in answers]
    shared = next((i for i, turns in enumerate(zip(*chats, strict=False)) if len(set(turns)) > 1), min(map(len, chats)))
    while shared and not all(len(turns) > shared and turns[shared].role == ASSISTANT for turns in chats):
        shared -= 1  # a response begins with a reply
    if not shared:
        raise ValueError(
            f"{answers[0].column} and {answers[1].column}: the first messages are {_shown(chats[0][0])} and {_shown(chats[1][0])}, "
            "the same question expected"
        )
    return [
        _Answer(
            answer.column,
            turns[:shared],
            "\n\n".join(filter(None, [turns[shared].content, written_out(turns[shared + 1 :])])),
        )
        for answer, turns in zip(answers, chats, strict=True)
    ]


def _check_same(first: _Answer, other: _Answer) -> None:
    for i, (one, two) in enumerate(zip_longest(first.conversation, other.conversation)):
        if one != two:
            raise ValueError(
                f"{first.column} and {other.column} answer different messages: message {i} of the conversation is {_shown(one)} and "
                f"{_shown(two)}, the same turns before the last expected (or whole_conversations, where those were judged)"
            )


def _check_text(prompt: Cell, conversation: list[Message]) -> None:
    """A text may be the conversation written out, or the question in it; the conversation is kept."""
    question = next((message for message in reversed(conversation) if message.role == USER), None)
    same_texts = [written_out(conversation), *([question.content] if question else [])]
    if prompt.value.strip() not in [text.strip() for text in same_texts]:
        raise ValueError(
            f"{prompt.column}: {prompt.value[:40]!r} found, the last message by 'user' expected ({_shown(question)}), or all messages "
            "written out: leave this column out where the messages are the whole conversation"
        )


def _shown(message: Message | None) -> str:
    return repr(f"{message.role}: {message.content}"[:40]) if message else "missing"
