"""Columns of other names: a mapping from the fields of a ranking to the columns of any table, hub data set or JSON Lines file.

{prompt: question, chosen: answer_a, rejected: answer_b}         a pair
{prompt: question, responses: [a, b], winner: better}            the name of the better one in a column; `judgments.Winner` has its values
{prompt: question, responses: [a, b], strength: preference}      negative: a is better, positive: b is
{prompt: question, responses: completions, scores: ratings}      lists; higher scores are better, equal ones tie
{prompt: question, responses: [a, b, c], ranks: [ra, rb, rc]}    one column for each response
{prompt: question, response: answer, scores: rating}             one row for each response
{..., labeler: meta.annotator}                                   inside a nested column
{..., labeler: =gpt-4}                                           a text of its own instead of a column

Prompt and responses may be chats: see `chats.py`.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, model_validator

from core.config import Config, validated
from core.errors import InputError
from data.comparisons.importing.chats import Cell, chat, first_turns, interleaved, read_from_json, with_messages
from data.comparisons.importing.judgments import Winner, parse_winner, ranks_of_scores, ranks_of_strength

UNKNOWN = "unknown"  # the labeler where no column names one
_LISTS = ("responses", "ranks", "scores", "systems", "messages")
_NO_COLUMNS = ("winner", "speakers", "whole_conversations", "join_pairs")


class Columns(Config):
    """Which column, or columns, each field of a ranking is read from."""

    prompt: str | None = None
    """The prompt: a text, or a list of messages."""
    messages: str | None = None
    """The prompt as a chat: a list of messages (`role`, `content`)."""
    user_turns: str | None = None
    """The prompt as the user's turns, a list of texts; each response is then the list of the replies to them."""
    responses: str | list[str] | None = None
    """One column with a list of responses, or one column for each response. A response is a text or a list of messages."""
    response: str | None = None
    """The one response of a row. Rows of the same prompt and labeler that follow each other are one ranking; they need `scores` or `ranks`."""
    ranks: str | list[str] | None = None
    """The responses' ranks, in the same way: 1 is the best, equal ranks are ties."""
    scores: str | list[str] | None = None
    """The responses' scores, instead of ranks: the highest is the best, equal scores are ties."""
    winner: Winner | None = None
    """A column that names the better response; also as a text, `better{answer_a=A,answer_b=B,tie=both|neither,skip=unsure}`."""
    strength: str | None = None
    """A signed preference: negative, the first of two responses is better; positive, the second; 0, a tie. The ranks are as far apart."""
    chosen: str | None = None
    """Of a pair: the better response."""
    rejected: str | None = None
    """Of a pair: the worse response."""
    whole_conversations: bool = False
    """The responses are conversations that differ before their last message. The prompt is what they share, and a response is all that follows."""
    judged_turn: str | None = None
    """How many of the user's turns had been answered when the conversations were judged; later turns are left out."""
    speakers: dict[str, str] = Field(default_factory=dict)
    """Of a chat that is written as one text: what is before each role's turns, e.g. `{user: "Human:", assistant: "Assistant:"}`."""
    labeler: str | None = None
    """Who ranked. `null`: `unknown`, and pairs of one prompt are not joined."""
    join_pairs: bool = True
    """Pairs of one labeler about one prompt become one ranking where they determine one. `false` where one name is for many people."""
    reference: str | None = None
    """A good response, for templates that show it."""
    systems: str | list[str] | None = None
    """Which system wrote each response."""
    time: str | None = None
    """When it was ranked: ISO 8601, or seconds since 1970."""
    weight: str | None = None
    """The ranking's weight in training, with `weighting: record`."""
    id: str | None = None
    """Tells apart two rankings of the same responses by the same labeler."""

    @model_validator(mode="after")
    def _states_an_order(self) -> "Columns":
        orders = [name for name in ("ranks", "scores", "winner", "strength") if getattr(self, name) is not None]
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("'chosen' and 'rejected' go together")
        if [self.chosen, self.responses, self.response].count(None) != 2:
            raise ValueError("columns for either 'chosen' and 'rejected', or 'responses', or 'response', are needed")
        if self.chosen is not None and orders:
            raise ValueError(f"'chosen' and 'rejected' say the order: '{orders[0]}' goes with 'responses'")
        if self.chosen is None and len(orders) != 1:
            raise ValueError(
                "'responses' need one of 'ranks' (1 is best), 'scores' (higher is better), 'winner' (a column that names the better one) "
                "and 'strength' (negative: the first is better)"
            )
        if self.response is not None and not (isinstance(self.ranks, str) or isinstance(self.scores, str)):
            raise ValueError("'response', of a row, needs one column of 'ranks' or 'scores'")
        if self.strength is not None and isinstance(self.responses, list) and len(self.responses) != 2:
            raise ValueError("'strength' is of two responses")
        if self.winner is not None:
            self.winner.check(self.responses if isinstance(self.responses, list) else None)
        return self

    @property
    def PAIRS(self) -> bool:  # as the modules of data/comparisons/formats say it
        """Whether these are pairs whose labeler is known: only then may pairs of one prompt be joined."""
        return self.is_pair and self.labeler is not None and self.join_pairs

    @property
    def is_pair(self) -> bool:
        """Whether each judgment is of two responses (the best of more is pairs with the best)."""
        return self.chosen is not None or self.winner is not None or self.strength is not None

    def judgments(self) -> list[str]:
        """The columns in which somebody judged."""
        winner = self.winner.column if self.winner else None
        columns = [winner, self.strength, *(c for c in (self.scores, self.ranks) if not isinstance(c, list))]
        return [c for c in columns if c] + [
            c for each in (self.scores, self.ranks) if isinstance(each, list) for c in each
        ]

    def rankings(self, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The values of the canonical record in a row; of several, pairs with the winner, where it is the best of more than two.

        Nothing where the winner or the strength is empty: nobody judged.

        Raises:
            ValueError: a column is missing, a value is wrong, or messages cannot all be kept.
        """
        values = self._read(record)
        cells = self._responses(values)
        prompt = with_messages(Cell(str(self.prompt), values.pop("prompt", None)), self.speakers)
        messages = Cell(str(self.messages), _chat(values.pop("messages", None)))
        values |= chat(prompt, messages, cells, self.whole_conversations)
        if (ranks := self._ranks(values, [cell.column for cell in cells])) is None:
            return
        if values.get("systems") is not None:
            values["systems"] = [[s] if isinstance(s, str) else s for s in values["systems"]]
        values["ranks"] = ranks
        yield from _pairs_with_the_best(values) if self.winner else [values]

    def gathered(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The row of several responses that these rows of one response each are together."""
        columns = {c for c in (self.response, self.scores, self.ranks, self.systems) if isinstance(c, str)}
        return {**rows[0], **{column: [_value(row, column) for row in rows] for column in columns}}

    def group(self, row: Mapping[str, Any]) -> Any:
        """What is the same in the rows of one ranking, where each has one response. Raises ValueError: a column is missing."""
        return [_value(row, c) for c in (self.prompt, self.messages, self.labeler, self.reference) if c is not None]

    def _read(self, record: Mapping[str, Any]) -> dict[str, Any]:
        values = {
            name: _values(record, source) for name, source in self if source is not None and name not in _NO_COLUMNS
        }
        if self.winner:
            values["winner"] = _value(record, self.winner.column)
        values.setdefault("labeler", UNKNOWN)
        for name in ("labeler", "id"):  # often numbers
            if isinstance(values.get(name), int):
                values[name] = str(values[name])
        if isinstance(values.get("time"), int | float):
            try:
                values["time"] = datetime.fromtimestamp(values["time"], UTC)
            except (ValueError, OverflowError, OSError):
                raise ValueError(f"{self.time}: {values['time']} found, seconds since 1970 expected") from None
        if isinstance(values.get("time"), datetime):
            values["time"] = values["time"].isoformat()
        return values

    def _responses(self, values: dict[str, Any]) -> list[Cell]:
        """Takes the responses out of `values`, conversations as far as they were judged."""
        if self.chosen is not None:
            cells = [Cell(str(getattr(self, name)), values.pop(name)) for name in ("chosen", "rejected")]
        else:
            name = "responses" if self.response is None else "response"
            listed, columns = _listed(values.pop(name), name), getattr(self, name)
            names = columns if isinstance(columns, list) else [f"{columns}.{i}" for i in range(len(listed))]
            cells = [Cell(*cell) for cell in zip(names, listed, strict=True)]
        if self.user_turns is not None:
            users = Cell(self.user_turns, _listed(values.pop("user_turns"), self.user_turns))
            cells = [interleaved(users, Cell(cell.column, _listed(cell.value, cell.column))) for cell in cells]
        cells = [with_messages(cell, self.speakers) for cell in cells]
        if self.judged_turn is not None:
            count = _rank(values.pop("judged_turn"))
            cells = [first_turns(cell, count) for cell in cells]
        return cells

    def _ranks(self, values: dict[str, Any], columns: list[str]) -> Sequence[int | None] | None:
        """Takes the judgment out of `values`. None where there is none."""
        if self.scores is not None:
            return ranks_of_scores(_listed(values.pop("scores"), "scores"))
        if self.ranks is not None:
            return [_rank(r) for r in _listed(values.pop("ranks"), "ranks")]
        if self.strength is not None:
            if len(columns) != 2:
                raise ValueError(f"{self.strength}: a strength is of two responses ({len(columns)} found)")
            return ranks_of_strength(values.pop("strength"), self.strength)
        if self.winner is not None:
            choice = self.winner.choice(values.pop("winner"), columns)
            return None if choice is None else [1 if choice in (-1, i) else 2 for i in range(len(columns))]
        return [1, 2]


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
    for part in re.findall(r"(?:[^,{]|\{[^}]*\}?)+", text):  # commas in braces are the winner's
        name, equals, source = part.strip().partition("=")
        if not equals or not source:
            raise InputError(f"{where}: {part.strip()!r}: FIELD=COLUMN expected, e.g. prompt=question")
        is_list = "+" in source and not source.startswith("=") and name != "winner"
        values[name] = source.split("+") if is_list else source
    try:
        if "winner" in values:
            values["winner"] = parse_winner(values["winner"])
    except ValueError as error:
        raise InputError(f"{where}: winner: {error}") from None
    return validated(Columns, values, where)


def cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a CSV file with the canonical names: lists are written as JSON, empty cells are absent."""
    values: dict[str, Any] = {k: v for k, v in row.items() if v != ""}
    for name in {*_LISTS, "weight"} & set(values):
        values[name] = _json(values[name], name)
    if "prompt" in values:
        values["prompt"] = read_from_json(values["prompt"])
    return values


def _pairs_with_the_best(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What a choice of the best has compared: the best with each other response. A tie is of all of them."""
    ranks, lists = values["ranks"], [name for name in ("responses", "systems", "ranks") if values.get(name)]
    if len(ranks) == 2 or len(set(ranks)) == 1:
        yield values
        return
    if {len(values[name]) for name in lists} != {len(ranks)}:
        raise ValueError(f"{len(ranks)} responses but systems for {len(values['systems'])}")
    best = ranks.index(1)
    for other in range(len(ranks)):
        if other != best:
            yield {**values, **{name: [values[name][i] for i in sorted((best, other))] for name in lists}}


def _chat(value: Any) -> Any:
    return _listed(value, "messages") if isinstance(value, str) else value


def _values(record: Mapping[str, Any], source: str | list[str]) -> Any:
    return [_value(record, s) for s in source] if isinstance(source, list) else _value(record, source)


def _value(record: Mapping[str, Any], source: str) -> Any:
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
    except RecursionError:
        raise ValueError(f"{name}: nested too deeply") from None


def _rank(value: Any) -> Any:
    """A rank as tables write it: `"2"` in CSV, `2.0` where a column has gaps."""
    if value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
