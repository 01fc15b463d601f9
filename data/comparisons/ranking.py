"""The canonical ranking record."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

REFERENCE_LABELER = "reference"

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Rank = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)]


class Message(BaseModel):
    """One turn of a chat prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Text
    content: str

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        """A table has the keys of any message in all of them, null where a message has none (tool calls, names)."""
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, Mapping) else values


_MESSAGES = TypeAdapter(list[Message])


def read_messages(values: Any, where: str) -> list[Message]:
    """A list of messages of role and content. Raises ValueError: one line that names every wrong place, after `where`."""
    if not isinstance(values, list):
        raise ValueError(f"{where}: a list of messages expected (found {str(values)[:60]!r})")
    try:
        return _MESSAGES.validate_python(values)
    except ValidationError as error:
        raise ValueError("; ".join(f"{where}.{_explain(e)}" for e in error.errors())) from None


def written_out(messages: Iterable[Message]) -> str:
    """Messages as one text, which is the prompt of a record that has messages alone."""
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


def _prompt(fields: dict[str, Any]) -> str:
    return written_out(fields.get("messages") or ())  # empty, and so refused, where there are no messages either


def _iso_8601(value: str) -> str:
    datetime.fromisoformat(value)
    return value


class Ranking(BaseModel):
    """One labeler's order, ties and gaps allowed, of K >= 2 responses to one prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: tuple[Message, ...] | None = Field(default=None, min_length=1)  # of a chat; before `prompt`, made of them
    prompt: Text = Field(default_factory=_prompt, validate_default=True)
    responses: tuple[Text, ...] = Field(min_length=2)
    ranks: tuple[Rank | None, ...]  # 1 is best; equal ranks are ties; None was not ranked: comparable with nothing
    labeler: Text  # who ranked; "reference" where a similarity to the reference did
    origin: Text  # where the ranking comes from: the pipeline's own responses, or an import's file
    reference: Text | None = None
    systems: tuple[tuple[str, ...], ...] | None = None  # which systems gave each response
    time: Annotated[str, AfterValidator(_iso_8601)] | None = None  # of the judgment
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)  # in the reward model's loss
    id: str | None = None  # the source's own name of this judgment

    @model_validator(mode="after")
    def _consistent(self) -> "Ranking":
        k = len(self.responses)
        if len(self.ranks) != k:
            raise ValueError(f"{k} responses but {len(self.ranks)} ranks")
        if self.systems is not None and len(self.systems) != k:
            raise ValueError(f"{k} responses but systems for {len(self.systems)}")
        if len(set(self.responses)) != k:
            raise ValueError("a response is there twice: keep one of the two")
        if k - self.ranks.count(None) < 2:
            raise ValueError(f"{k - self.ranks.count(None)} of {k} responses ranked: at least 2 needed")
        return self


def ranking(values: Any) -> Ranking:
    """`values` as a Ranking; a `prompt` that is a list of messages becomes `messages`.

    Raises:
        ValueError: one line that names every wrong field and what was found.
    """
    if isinstance(values, Mapping) and isinstance(values.get("prompt"), list) and values.get("messages") is None:
        values = {**values, "messages": values["prompt"]}
        del values["prompt"]
    try:
        return Ranking.model_validate(values)
    except ValidationError as error:
        # Where a response is wrong, pydantic also finds the right ones too few.
        real = [e for e in error.errors() if e["type"] != "too_short" or len(e["input"]) < e["ctx"]["min_length"]]
        raise ValueError("; ".join(map(_explain, real))) from None


def content_key(record: Ranking) -> int:
    """64 bits that tell rankings apart: of prompt, responses, ranks, labeler, time and id.

    The origin is not in it, so that the same judgments in a file of another name are known again.
    """
    texts = (record.prompt, record.labeler, record.time or "", record.id or "", repr(record.ranks), *record.responses)
    written = "".join([f"{len(t)}:{t}" for t in texts])  # with lengths no two lists of texts are written alike
    return int.from_bytes(hashlib.blake2b(written.encode(), digest_size=8).digest(), "big")


def _explain(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "too_short" and where == "responses":
        return f"{where}: K = {len(error['input'])}, a ranking needs at least 2 responses"
    if error["type"] == "missing":
        return f"{where}: missing"
    if not where:  # the record as a whole
        return str(error.get("ctx", {}).get("error", "a JSON object expected"))
    value = str(error["input"])[:60].encode("utf-8", "backslashreplace").decode()
    return f"{where}: {error['msg']} (found {value!r})"
