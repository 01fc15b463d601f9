"""The canonical ranking record."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

REFERENCE_LABELER = "reference"

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Ranking(BaseModel):
    """One labeler's order, ties allowed, of K >= 2 responses to one prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Text
    responses: tuple[Text, ...] = Field(min_length=2)
    ranks: tuple[Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)], ...]  # 1 is best; equal ranks are ties
    labeler: Text  # who ranked; "reference" where a similarity to the reference did
    origin: Text  # where the ranking comes from: the pipeline's own responses, or an import's file
    reference: Text | None = None
    systems: tuple[tuple[str, ...], ...] | None = None  # which systems gave each response

    @model_validator(mode="after")
    def _consistent(self) -> "Ranking":
        k = len(self.responses)
        if len(self.ranks) != k:
            raise ValueError(f"{k} responses but {len(self.ranks)} ranks")
        if self.systems is not None and len(self.systems) != k:
            raise ValueError(f"{k} responses but systems for {len(self.systems)}")
        if len(set(self.responses)) != k:
            raise ValueError("a response stands there twice: keep one of the two")
        return self


def ranking(values: Any) -> Ranking:
    """`values` as a Ranking; raises ValueError with one line that names every wrong field and what was found."""
    try:
        return Ranking.model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(e) for e in error.errors())) from None


def _explain(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "too_short":
        return f"{where}: K = {len(error['input'])}, a ranking needs at least 2 responses"
    if not where:  # the record as a whole
        return str(error.get("ctx", {}).get("error", "a JSON object expected"))
    return f"{where}: {error['msg']} (found {str(error['input'])[:60]!r})"
