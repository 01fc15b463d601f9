"""Section `reward_models`."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from core.config import Config, merged
from data.comparisons.encoding_config import FIELDS, Weighting
from data.overlong import Overlong
from data.templates import checked_template
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.reward_model.config import LossConfig, RewardTrainingConfig
from lightning_modules.training.config import without_unread
from stages.configs import Artifact, ItemName, inherited


class HeldOutLabelers(Config):
    """One fold of the labelers, on whose rankings the model is tested and never trained."""

    fold: int = Field(ge=1)
    """Number of the fold that is held out, from 1."""
    folds: int = Field(ge=2)
    """Folds that the labelers are divided into."""

    @model_validator(mode="after")
    def _fold_exists(self) -> "HeldOutLabelers":
        if self.fold > self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds} folds")
        return self


class RewardModelConfig(Config):
    """A reward model: its backbone, its texts, its loss and its training. Defaults are those of Ouyang et al. (2022), "the paper"."""

    seed: int | None = Field(default=None, ge=0)
    """Seed of its samples and its training. `null`: the run's."""
    template: str = "{prompt}"
    """What the model reads before the response: `{prompt}`, and `{reference}` if it may see the reference."""
    max_length: int = Field(default=1024, ge=8)
    """Tokens of prompt and response together."""
    overlong: Overlong = "drop"
    """Rankings with a longer text are dropped (`drop`), or the end of its response is cut off (`truncate`). Both are counted."""
    trainable: Literal["all", "top_layers", "prefix"] = "all"
    """What is trained beside the scalar head: all weights, the top layers, or a prefix."""
    num_top_layers: int = Field(default=2, ge=1)
    """Only with `trainable: top_layers`: their number."""
    prefix: PrefixConfig = PrefixConfig()
    """Only with `trainable: prefix`: the prefix; it has no `training`, `position` or `prompt_tuning_init_text` of its own."""
    mode: Literal["grouped", "shuffled_pairs"] = "grouped"
    """`grouped`: all comparisons of a ranking are one batch element (3.5). `shuffled_pairs`: each is one, for comparison."""
    loss: LossConfig = LossConfig()
    """The loss."""
    weighting: Weighting = "none"
    """Weights of rankings: `none`, all equal; `record`, the record's own; `labeler`, every labeler's rankings weigh the same together."""
    batch_size: int = Field(default=64, ge=1)
    """Rankings of one update (with `shuffled_pairs`: comparisons). Paper: 64 (C.2)."""
    training_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training rankings that is used."""
    comparisons_share: float = Field(default=1.0, gt=0, le=1)
    """With `shuffled_pairs`: share of their comparisons that is used."""
    held_out_labelers: HeldOutLabelers | None = None
    """Labelers whose rankings test the model and never train it. `null`: none."""
    test_rankings: int | None = Field(default=None, ge=1)
    """Rankings that it is tested on. `null`: all."""
    validation_rankings: int | None = Field(default=None, ge=1)
    """Rankings that it is validated on. `null`: all."""
    validations: int = Field(default=1, ge=1)
    """Validations in each epoch."""
    training: RewardTrainingConfig = RewardTrainingConfig()
    """How it is trained. Default: the paper's (C.2)."""

    @field_validator("template")
    @classmethod
    def _known_fields(cls, value: str) -> str:
        return checked_template(value, FIELDS)

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "RewardModelConfig":
        if self.mode == "grouped" and self.comparisons_share < 1:
            raise ValueError('comparisons_share needs mode "shuffled_pairs": a ranking is not cut')
        if self.mode == "shuffled_pairs" and self.loss.ties == "soft":
            raise ValueError('ties "soft" needs mode "grouped": shuffled pairs are strict')
        if self.prefix.position == "infix":
            raise ValueError(
                "prefix.position infix is for prefix_tuning: a reward model's prefix comes before the prompt"
            )
        if "training" in self.prefix.model_fields_set:
            raise ValueError("prefix.training is for prefix_tuning: a reward model's prefix learns as `training` says")
        if self.prefix.prompt_tuning_init_text:
            raise ValueError(
                "prefix.prompt_tuning_init_text is for prefix_tuning: a reward model's prefix starts from random values"
            )
        return self


class RewardModelVariantConfig(RewardModelConfig):
    """A reward model, with what it starts from and learns from."""

    backbone: Artifact
    """The model under the scalar head: `language_models/NAME` or `base_models/NAME`."""
    collection: ItemName
    """The comparison collection that it learns from: a name of `comparisons` or of `reference_comparisons`."""
    init_from: str | None = None
    """Start from the weights, head and prefix of this reward model: a variant's name, or a model folder. `null`: from the backbone alone."""


class SplitConfig(Config):
    """How the prompts of every collection are divided; the rest is for training."""

    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of the prompts whose rankings are for validation."""
    test: float = Field(default=0.2, gt=0, lt=1)
    """Share of the prompts whose rankings are for testing."""

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "SplitConfig":
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must be less than 1: the rest of the prompts is for training")
        return self


class RewardModelsConfig(Config):
    """The reward models to train."""

    split: SplitConfig
    """How the prompts of every collection are divided."""
    common: RewardModelConfig
    """What all of them have in common."""
    variants: dict[ItemName, RewardModelVariantConfig] = Field(min_length=1)
    """One line for each: a name, its backbone and collection, and what differs from `common`."""

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, values: Any) -> Any:
        return inherited(RewardModelConfig, values, "reward_models", "variants", RewardModelVariantConfig, _variant)


def _variant(common: Mapping[str, Any], variant: Any) -> Any:
    """What a variant says, over `common`. Keys of `common.training` that its own optimizer or schedule does not read are left out."""
    if not isinstance(variant, Mapping):
        return variant
    inherited, own = common.get("training"), variant.get("training")
    if isinstance(inherited, Mapping) and isinstance(own, Mapping):
        common = {**common, "training": without_unread(inherited, own)}
    return merged(common, variant)
