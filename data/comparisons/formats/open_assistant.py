"""Open-Assistant message trees (oasst1, oasst2): one ranking for each prompter's message with ranked replies.

A record is {"message_tree_id", "tree_state", "prompt": MESSAGE}; a message is {"message_id", "text", "role": "prompter" or
"assistant", "lang", "review_count", "review_result", "deleted", "rank", "synthetic", "model_name", ..., "replies": [MESSAGE, ...]}. The
best reply has rank 0; replies without a rank are "not ranked". Each rank is a consensus of several volunteers (by ranked pairs),
so the labeler is "oasst-consensus". Messages that were deleted or reviewed as spam (`review_result` false) are left out with
all that follows them, as in the data sets' "ready" trees.

The hub's rows and the `.messages.jsonl.gz` files hold single messages, without their conversation, and are refused: use a
`.trees.jsonl.gz` file.

https://huggingface.co/datasets/OpenAssistant/oasst1
https://huggingface.co/datasets/OpenAssistant/oasst2
https://github.com/LAION-AI/Open-Assistant/tree/main/oasst-data
"""

from collections.abc import Iterator, Mapping
from typing import Any

from data.comparisons.importing.fields import Answer, distinct, entries, field, optional

PAIRS = False

_ROLES = {"prompter": "user", "assistant": "assistant"}

Message = Mapping[str, Any]
Thread = tuple[dict[str, str], ...]


def rankings(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rankings of a tree, from its root downwards; none where nothing was ranked."""
    if "prompt" not in record and ("message_id" in record or "thread_id" in record):
        raise ValueError("prompt: missing: single messages found, whole trees expected (a file .trees.jsonl.gz)")
    root = field(record, "prompt", dict)
    waiting: list[tuple[Thread, Message, str]] = [((), root, "prompt.")] if _kept(root) else []
    while waiting:
        before, node, at = waiting.pop()
        thread = (*before, _message(node, at))
        replies = _replies(node, at)
        waiting.extend((thread, reply, where) for reply, where in reversed(replies))
        answers = [_answer(reply, where) for reply, where in replies if reply.get("role") == "assistant"]
        if sum(a.judgment is not None for a in answers) >= 2:
            yield _ranking(thread, node, distinct(answers))


def _ranking(thread: Thread, node: Message, answers: list[Answer]) -> dict[str, Any]:
    return {
        "messages": list(thread),
        "responses": [a.text for a in answers],
        "ranks": [a.judgment for a in answers],
        "labeler": "oasst-consensus",
        "systems": [a.systems for a in answers] if any(a.systems for a in answers) else None,  # people wrote the others
        "id": optional(node, "message_id", str),
    }


def _answer(reply: Message, at: str) -> Answer:
    rank, model = optional(reply, "rank", int, at), optional(reply, "model_name", str, at)
    return Answer(field(reply, "text", str, at), None if rank is None else rank + 1, (model,) if model else ())


def _replies(node: Message, at: str) -> list[tuple[Message, str]]:
    if node.get("replies") is None:
        return []
    return [(reply, where) for reply, where in entries(node, "replies", at) if _kept(reply)]


def _kept(node: Message) -> bool:
    return not node.get("deleted") and node.get("review_result") is not False  # null: not yet reviewed


def _message(node: Message, at: str) -> dict[str, str]:
    role = field(node, "role", str, at)
    if role not in _ROLES:
        raise ValueError(f"{at}role: {role[:40]!r} found, 'prompter' or 'assistant' expected")
    return {"role": _ROLES[role], "content": field(node, "text", str, at)}
