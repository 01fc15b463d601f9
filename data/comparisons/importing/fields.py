"""Reading one record of an export: fields of the expected type, and answers that occur twice."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

_NAMES = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}


def field(record: Mapping[str, Any], key: str, kind: type[T], at: str = "") -> T:
    """`record[key]`, of the type `kind`: str, int, float (whole numbers too), list or dict.

    `at` says where `record` itself is in the export, such as "responses.0."; messages begin with it.

    Raises:
        ValueError: it is missing or of another type.
    """
    if key not in record:
        raise ValueError(f"{at}{key}: missing, {_NAMES[kind]} expected")
    value = record[key]
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ValueError(f"{at}{key}: {what_was_found(value)}, {_NAMES[kind]} expected")
    return value  # type: ignore[return-value]  # a whole number serves as a float


def optional(record: Mapping[str, Any], key: str, kind: type[T], at: str = "") -> T | None:
    """As `field`, but None where the key is missing or null."""
    return None if record.get(key) is None else field(record, key, kind, at)


def entries(record: Mapping[str, Any], key: str, at: str = "") -> list[tuple[dict[str, Any], str]]:
    """The objects of the list `record[key]`, each with its place ("responses.0."). Raises ValueError as `field`."""
    values = field(record, key, list, at)
    for i, value in enumerate(values):
        if not isinstance(value, dict):
            raise ValueError(f"{at}{key}.{i}: {what_was_found(value)}, an object expected")
    return [(value, f"{at}{key}.{i}.") for i, value in enumerate(values)]


def what_was_found(value: Any) -> str:
    """What was found, for a message: lists and objects by their kind only, the rest by their first 60 characters."""
    if isinstance(value, list | dict):
        return f"{_NAMES[type(value)]} found"
    return "null found" if value is None else f"{repr(value)[:60]} found"


class Answer(NamedTuple):
    """One answer as an export gives it."""

    text: str
    judgment: float | None  # a rank or a score, as the format has it; None was not judged
    systems: tuple[str, ...] = ()


def distinct(answers: Iterable[Answer]) -> list[Answer]:
    """The answers in order, those of the same text as one answer of all their systems.

    Raises:
        ValueError: the same text was judged in two ways.
    """
    once: dict[str, Answer] = {}
    for answer in answers:
        text = answer.text.strip()
        twin = once.setdefault(text, answer)
        if twin is answer:
            continue
        judgments = {a.judgment for a in (twin, answer)} - {None}
        if len(judgments) > 1:
            raise ValueError(
                f"contradiction: the same response was judged {twin.judgment} and {answer.judgment} (it begins {text[:40]!r})"
            )
        once[text] = Answer(twin.text, next(iter(judgments), None), (*twin.systems, *answer.systems))
    return list(once.values())
