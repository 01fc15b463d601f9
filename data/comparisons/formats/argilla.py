"""Argilla: records with submitted answers to a ranking question, one ranking for each annotator and question.

Four shapes, told apart by themselves:
- the server's API, versions 1 and 2 (GET /api/v1/datasets/ID/records?include=responses, each of its `items` a record), and
  `FeedbackRecord` of version 1's client: {"fields": {NAME: text}, "responses": [{"id", "user_id", "status", "updated_at", "values":
  {QUESTION: {"value": [{"value": OPTION, "rank": 1}, ...]}}}, ...], ...}
- a data set that version 1 pushed to the hub: a row {NAME: text, ..., QUESTION: [{"user_id", "status", "value": {"rank": [1, ...],
  "value": [OPTION, ...]}}, ...], "QUESTION-suggestion": ..., "external_id", "metadata"}
- `Record.to_dict` and `records.to_json` of version 2's client: {"fields": ..., "responses": {QUESTION: [{"user_id", "value"}, ...]}, ...}
- `records.to_datasets` of version 2's client: {NAME: text, ..., "QUESTION.responses": [value, ...], "QUESTION.responses.users", ...}

An OPTION is the name of the field that holds a response, as in Argilla's own template; the other fields are the prompt, written
out with their names where there are several. Drafts and discarded answers are no judgments and are left out.

Rating and label questions mean what a mapping of columns says, whose columns are names of fields and questions:
`prompt=instruction,responses=a+b,scores=a_rating+b_rating`, or `winner=better{a=first,b=second,tie=equal}`.

Version 2's client loses the ranks of what annotators submitted: it keeps the options' names, in the order of the question's settings
(https://github.com/argilla-io/argilla/issues/5712). Such lists of names are refused, since they would pass for rankings.

https://docs.argilla.io/latest/reference/argilla/records/responses/
https://github.com/argilla-io/argilla/blob/main/argilla-server/src/argilla_server/api/schemas/v1/responses.py
https://github.com/argilla-io/argilla/blob/main/argilla/src/argilla/responses.py
"""

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any, NamedTuple

from data.comparisons.importing.annotations import Annotation
from data.comparisons.importing.fields import Answer, distinct, entries, field, optional

PAIRS = False

_NO_RANKS = (
    "options without ranks: version 2 of Argilla's client loses them; "
    "export from the server's API instead (GET /api/v1/datasets/ID/records?include=responses)"
)
_NOT_FIELDS = ("id", "external_id", "metadata", "status", "_server_id")  # of a row


class _Response(NamedTuple):
    """One annotator's answer to one question, whatever its type."""

    question: str
    value: Any
    at: str  # where the value is
    of: Mapping[str, Any]  # user_id and status, and what else the shape has
    whose: str  # where `of` is
    by_client_2: bool = False


def rankings(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rankings of a record; none where nobody has submitted one."""
    row = _is_row(record)
    fields = _fields_of_row(record) if row else field(record, "fields", dict)
    for response in _flat(record) if row else _nested(record):
        if response.of.get("status") not in ("submitted", None):
            continue
        if response.by_client_2 and _are_names(response.value, fields):
            raise ValueError(f"{response.at}: {_NO_RANKS}")
        options = _options(response.value, response.at)
        if options:
            yield _ranking(fields, options, response)


def annotations(record: Mapping[str, Any]) -> Iterator[Annotation]:
    """The submitted answers of each annotator, under the questions' names, beside the record's fields."""
    row = _is_row(record)
    fields = _fields_of_row(record) if row else field(record, "fields", dict)
    answers: dict[str, tuple[_Response, dict[str, Any]]] = {}
    for response in _flat(record) if row else _nested(record):
        if response.of.get("status") in ("submitted", None):
            annotator = optional(response.of, "user_id", str, response.whose) or response.whose  # null: a deleted user
            answered = answers.setdefault(annotator, (response, {}))[1]
            if response.question in answered:
                raise ValueError(f"{response.at}: a second answer of {annotator!r} to {response.question!r}")
            answered[response.question] = response.value
    for response, answered in answers.values():
        yield Annotation({**fields, **answered}, _judged_by(response), response.whose.removesuffix("."))


def _judged_by(response: _Response) -> dict[str, Any]:
    return {
        "labeler": optional(response.of, "user_id", str, response.whose) or "unknown",  # null: a deleted user
        "time": optional(response.of, "updated_at", str, response.whose),
        "id": optional(response.of, "id", str, response.whose),
    }


def _ranking(fields: Mapping[str, Any], options: dict[str, int | None], response: _Response) -> dict[str, Any]:
    for option in options:
        if option not in fields:
            raise ValueError(f"{response.at}: option {option!r} is no field's name (fields: {', '.join(fields)})")
    answers = distinct(Answer(field(fields, option, str, "fields."), rank) for option, rank in options.items())
    return {
        **_prompt({name: value for name, value in fields.items() if name not in options and value is not None}),
        "responses": [a.text for a in answers],
        "ranks": [a.judgment for a in answers],
        **_judged_by(response),
    }


def _prompt(fields: Mapping[str, Any]) -> dict[str, Any]:
    if not fields:
        raise ValueError("fields: all of them are responses, one for the prompt expected")
    names = list(fields)
    if len(names) == 1 and isinstance(fields[names[0]], list):  # a chat field
        return {"messages": fields[names[0]]}
    texts = [field(fields, name, str, "fields.") for name in names]
    written_out = "\n\n".join(f"{name}: {text}" for name, text in zip(names, texts, strict=True))
    return {"prompt": texts[0] if len(texts) == 1 else written_out}


def _is_row(record: Mapping[str, Any]) -> bool:
    """Whether fields and questions are columns."""
    if "fields" in record or "responses" in record:
        return False
    return "_server_id" in record or any(isinstance(value, list) for value in record.values())


def _fields_of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    fields = {
        key: value
        for key, value in row.items()
        if key not in _NOT_FIELDS and (isinstance(value, str) or _is_chat(value))
    }
    return {key: value for key, value in fields.items() if not key.endswith("-suggestion") and ".suggestion" not in key}


def _is_chat(value: Any) -> bool:
    """Whether a column is a chat field; a question's answers are lists of objects as well."""
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) and "role" in turn for turn in value)


def _nested(record: Mapping[str, Any]) -> Iterator[_Response]:
    if isinstance(record.get("responses"), list):
        for response, at in entries(record, "responses"):
            values = optional(response, "values", dict, at) or {}  # null where an annotator discarded the record
            for question in values:
                value = field(values, question, dict, f"{at}values.").get("value")
                yield _Response(question, value, f"{at}values.{question}.value", response, at)
        return
    questions = optional(record, "responses", dict) or {}
    for question in questions:
        for response, at in entries(questions, question, "responses."):
            yield _Response(question, response.get("value"), f"{at}value", response, at, by_client_2=True)


def _flat(row: Mapping[str, Any]) -> Iterator[_Response]:
    for column, values in row.items():
        if not isinstance(values, list):
            continue
        if column.endswith(".responses"):
            users, statuses = (optional(row, f"{column}.{key}", list) or [] for key in ("users", "status"))
            for i, (value, user, status) in enumerate(zip_longest(values, users, statuses)):
                of = {"user_id": user, "status": status}
                question = column.removesuffix(".responses")
                yield _Response(question, value, f"{column}.{i}", of, f"{column}.{i}.", by_client_2=True)
        elif all(isinstance(value, dict) and "user_id" in value for value in values):
            for response, at in entries(row, column):
                yield _Response(column, response.get("value"), f"{at}value", response, at)


def _are_names(value: Any, fields: Mapping[str, Any]) -> bool:
    """Whether a value is a ranking's options alone (other types of questions have lists of texts as well)."""
    return isinstance(value, list) and len(value) > 1 and all(isinstance(v, str) and v in fields for v in value)


def _options(value: Any, at: str) -> dict[str, int | None]:
    """The options of a ranking with their ranks; none where the value is that of another type of question."""
    if isinstance(value, dict) and set(value) == {"rank", "value"}:  # the hub's layout of a list of objects
        ranks, names = field(value, "rank", list, f"{at}."), field(value, "value", list, f"{at}.")
        if len(ranks) != len(names):
            raise ValueError(f"{at}: {len(names)} options but {len(ranks)} ranks")
        value = [{"value": name, "rank": rank} for name, rank in zip(names, ranks, strict=True)]
    if not isinstance(value, list) or not any(isinstance(v, dict) and "value" in v for v in value):
        return {}
    options: dict[str, int | None] = {}
    for i, option in enumerate(value):
        if not isinstance(option, dict):
            raise ValueError(f"{at}.{i}: an option and its rank expected")
        name = field(option, "value", str, f"{at}.{i}.")
        if name in options:
            raise ValueError(f"{at}: option {name!r} is ranked twice")
        options[name] = optional(option, "rank", int, f"{at}.{i}.")
    return options
