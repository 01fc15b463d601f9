"""Sections `comparisons` and `reference_comparisons`: what each comparison collection is made of."""

from pydantic import Field, model_validator

from core.config import Config
from data.comparisons.importing.source import Source


class ComparisonsConfig(Config):
    """A collection of rankings from files and the hub; labeled/*.jsonl are imported into each."""

    imports: list[Source] = Field(default_factory=list)
    """Sources of rankings."""
    strict: bool = True
    """`true`: a wrong record refuses the import. `false`: it is dropped and reported."""


class ReferenceComparisonsConfig(ComparisonsConfig):
    """A collection of the translators' responses, ranked by chrF against the reference (labeler `reference`), beside imports."""

    tie_margin: float = Field(default=2.0, ge=0)
    """Responses closer than this are ties of the reference labeler, in chrF points."""
    min_responses: int = Field(default=4, ge=2)
    """Different responses that a prompt needs to be ranked by the reference labeler. Ouyang et al. (2022, 3.5): K = 4."""
    max_responses: int = Field(default=9, ge=2)
    """Maximum number of responses to a prompt that it ranks. Ouyang et al. (2022, 3.5): K = 9."""

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "ReferenceComparisonsConfig":
        if self.min_responses > self.max_responses:
            raise ValueError(
                f"min_responses ({self.min_responses}) is greater than max_responses ({self.max_responses})"
            )
        return self
