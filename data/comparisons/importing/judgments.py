"""Who is better, as tables say it: scores, a signed strength, or a column that names the winner."""

import math
from collections.abc import Sequence
from typing import Any

from pydantic import Field, field_validator, model_validator

from core.config import Config

TIE, SKIP = "tie", "skip"


class Winner(Config):
    """The column that names the better response, and what its values mean."""

    column: str
    """The column. Also as one text: `winner: better{a=model_a,b=model_b,tie=tie|both bad,skip=unsure}`."""
    values: dict[str, str | list[str]] = Field(default_factory=dict)
    """What names each response (by its column, or its number from 1), a `tie`, and rows to `skip`. Left out: the columns' names, and `tie`."""

    @model_validator(mode="before")
    @classmethod
    def _written_as_text(cls, values: Any) -> Any:
        return parse_winner(values) if isinstance(values, str) else values

    @field_validator("values", mode="before")
    @classmethod
    def _as_texts(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {
            str(key): [_text(v) for v in meant] if isinstance(meant, list) else _text(meant)
            for key, meant in values.items()
        }

    @model_validator(mode="after")
    def _each_value_means_one_thing(self) -> "Winner":
        texts = [text for meaning in self.values for text in self._texts(meaning)]
        if twice := sorted({text for text in texts if texts.count(text) > 1}):
            raise ValueError(f"the value {twice[0]!r} means two things")
        return self

    def check(self, columns: Sequence[str] | None) -> None:
        """Raises ValueError where `values` has no value for a response, or one for none of them; None: the number of responses is not known."""
        if columns is None:
            wrong = [name for name in self.values if name not in (TIE, SKIP) and not name.isdecimal()]
            missing = [] if self.values else ["1"]
            known = ["1", "2", "..."]
        else:
            known = [*columns, *map(str, range(1, len(columns) + 1))]
            wrong = [name for name in self.values if name not in (*known, TIE, SKIP)]
            both = zip(columns, map(str, range(1, len(columns) + 1)), strict=True)
            missing = [name for name, number in both if self.values and not {name, number} & self.values.keys()]
        if wrong:
            raise ValueError(f"'{wrong[0]}' is no response's column - known: {', '.join([*known, TIE, SKIP])}")
        if missing:
            raise ValueError(f"which value names the response '{missing[0]}'?")

    def choice(self, value: Any, columns: Sequence[str]) -> int | None:
        """The number of the better response, -1 for a tie, None where nobody judged. Raises ValueError: it is none of the known values."""
        sides = {name: i for i, column in enumerate(columns) for name in (column, str(i + 1))}
        meanings = {text: meaning for meaning in self.values for text in self._texts(meaning)}
        meanings = meanings or {name: name for name in (*columns, TIE)}
        meaning = meanings.get(text := _text(value))
        if meaning in (TIE, SKIP) or (meaning is None and not text):
            return -1 if meaning == TIE else None
        if meaning is None:
            known = ", ".join(repr(text) if text == of else f"{text!r} ({of})" for text, of in meanings.items())
            raise ValueError(f"{self.column}: {str(value)[:60]!r} found, one of {known} expected")
        if meaning not in sides:
            raise ValueError(f"{self.column}: {value!r} found, and there are {len(columns)} responses")
        return sides[meaning]

    def _texts(self, meaning: str) -> list[str]:
        values = self.values[meaning]
        return values if isinstance(values, list) else [values]


def parse_winner(text: str) -> dict[str, Any]:
    """`COLUMN` or `COLUMN{a=VALUE,b=VALUE,tie=VALUE|VALUE}` as the values of a Winner. Raises ValueError."""
    column, brace, inside = text.strip().partition("{")
    if not brace:
        return {"column": column}
    values: dict[str, list[str]] = {}
    for part in inside.removesuffix("}").split(","):
        meaning, equals, named = part.partition("=")
        if not inside.endswith("}") or not equals:
            raise ValueError("COLUMN{RESPONSE=VALUE,RESPONSE=VALUE,tie=VALUE|VALUE} expected")
        values[meaning.strip()] = [value.strip() for value in named.split("|")]
    return {"column": column.strip(), "values": values}


def ranks_of_strength(value: Any, column: str) -> list[int] | None:
    """The ranks of two responses, as far apart as the strength says: -3 is 1 and 4, 0 is a tie, 3 is 4 and 1; None where nobody judged.

    Raises:
        ValueError: no finite number.
    """
    if value in (None, ""):
        return None
    strength = number(value, column)
    distance = math.ceil(abs(strength))
    return [1, 1 + distance] if strength <= 0 else [1 + distance, 1]


def ranks_of_scores(scores: list[Any]) -> list[int | None]:
    """Ranks 1, 2, ... of the distinct scores, the highest first; None where there is no score."""
    numbers = [None if s in (None, "") else number(s, "scores") for s in scores]
    rank = {s: i for i, s in enumerate(sorted({s for s in numbers if s is not None}, reverse=True), start=1)}
    return [None if s is None else rank[s] for s in numbers]


def number(value: Any, name: str) -> float:
    """A finite number, also where a table has it as a text. Raises ValueError."""
    try:
        converted = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: a number expected (found {str(value)[:60]!r})") from None
    if not math.isfinite(converted):
        raise ValueError(f"{name}: a finite number expected (found {value!r})")
    return converted


def _text(value: Any) -> str:
    """A value as all kinds of files have it: 1, 1.0 and "1" are the same, and so are true and "True"."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return text.lower() if text in ("True", "False") else text
