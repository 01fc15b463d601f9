"""Section `comparisons`: what the comparison collection is made of."""

from pydantic import Field, model_validator

from core.config import Config
from data.comparisons.importing.source import Source


class ComparisonsConfig(Config):
    """How the comparison collection is made; labeled/*.jsonl are always imported."""

    imports: list[Source] = Field(default_factory=list)
    """Other sources of rankings."""
    strict: bool = True
    """`true`: a wrong record refuses the import. `false`: it is dropped and reported."""
    reference_labeler: bool = True
    """The translators' responses are ranked by chrF against the reference, by the labeler `reference`."""
    tie_margin: float = Field(default=2.0, ge=0)
    """Responses closer than this are ties of the reference labeler, in chrF points."""
    min_responses: int = Field(default=4, ge=2)
    """Different responses that a prompt needs to be ranked by the reference labeler. Ouyang et al. (2022, 3.5): K = 4."""
    max_responses: int = Field(default=9, ge=2)
    """Maximum number of responses to a prompt that it ranks. Ouyang et al. (2022, 3.5): K = 9."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of the prompts whose rankings are for validation."""
    test: float = Field(default=0.2, gt=0, lt=1)
    """Share of the prompts whose rankings are for testing."""

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "ComparisonsConfig":
        if self.min_responses > self.max_responses:
            raise ValueError(
                f"min_responses ({self.min_responses}) is greater than max_responses ({self.max_responses})"
            )
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must be less than 1: the rest of the prompts is for training")
        return self
