"""params.yaml as a whole."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, SerializeAsAny, field_validator, model_validator

from core.config import Config, nearest, read_yaml, validated
from core.errors import InputError
from core.format_1 import old_keys
from core.format_2 import FORMAT, format_of
from core.pipeline_config import PipelineConfig
from data import corpora
from data.corpora import CorpusConfig
from data.encoding_config import EncodingConfig
from data.tokenizer_training import TokenizerConfig
from lightning_modules.language_model.config import LanguageModelConfig
from stages.configs import PARAMS, ItemName
from stages.configs.comparisons import ComparisonsConfig, ReferenceComparisonsConfig
from stages.configs.long_lag import LongLagConfig
from stages.configs.prefix_tuning import BaseModelConfig, PrefixTuningConfig
from stages.configs.reward_models import RewardModelsConfig
from stages.configs.translators import EvaluationConfig, PretrainingConfig, ResponsesConfig

T = TypeVar("T")
_EXAMPLES = {"corpus": "kjv_bbe: {limit: 1000}", "tokenizer": "bpe: {vocab_size: 4000}"}


class Params(Config):
    """All of params.yaml. A section that is left out has no stages."""

    format: Literal[3] = FORMAT
    """Format of the keys' names."""
    seed: int = Field(ge=0)
    """Seed of everything that is random and has no seed of its own."""
    pipeline: PipelineConfig = PipelineConfig()
    """How stages are run. No result depends on it."""
    corpus: SerializeAsAny[CorpusConfig] | None = None
    """The sentence pairs: one line, the name of a corpus and its keys."""
    tokenizer: TokenizerConfig | None = None
    """The vocabulary that all translators and language models share: one line, its kind and its keys."""
    encoding: EncodingConfig | None = None
    """The pairs as token ids."""
    pretraining: PretrainingConfig | None = None
    """The translators to train."""
    evaluation: EvaluationConfig | None = None
    """How translators are tested."""
    responses: ResponsesConfig | None = None
    """What translators answer to the held-out prompts."""
    reference_comparisons: dict[ItemName, ReferenceComparisonsConfig] = Field(default_factory=dict)
    """Comparison collections of the translators' responses: one line for each."""
    comparisons: dict[ItemName, ComparisonsConfig] = Field(default_factory=dict)
    """Comparison collections of rankings from outside: one line for each."""
    language_models: dict[ItemName, LanguageModelConfig] = Field(default_factory=dict)
    """Language models of the corpus, backbones of reward models: one line for each."""
    base_models: dict[ItemName, BaseModelConfig] = Field(default_factory=dict)
    """Language models from outside: one line for each."""
    reward_models: RewardModelsConfig | None = None
    """The reward models to train."""
    prefix_tuning: PrefixTuningConfig | None = None
    """The adaptation task, and the prefixes to train."""
    long_lag: LongLagConfig | None = None
    """The tasks of the LSTM's paper."""

    @field_validator("corpus", mode="before")
    @classmethod
    def _corpus_by_name(cls, value: Any) -> Any:
        name, config = _only_line(value, "corpus", "the name of a corpus and its keys")
        return corpora.corpus_config({**config, "name": name}, f"{PARAMS}: corpus")

    @field_validator("tokenizer", mode="before")
    @classmethod
    def _tokenizer_by_kind(cls, value: Any) -> Any:
        kind, config = _only_line(value, "tokenizer", "bpe or words, and its keys")
        return {**config, "kind": kind}

    @model_validator(mode="after")
    def _nothing_is_missing(self) -> "Params":
        if problems := list(self._problems()):
            raise InputError("\n".join(f"{PARAMS}: {problem}" for problem in problems))
        return self

    def _problems(self) -> Iterator[str]:
        needs = {
            "tokenizer": ["corpus", "encoding"],
            "encoding": ["tokenizer"],
            "pretraining": ["encoding", "evaluation"],
            "evaluation": ["pretraining"],
            "responses": ["pretraining"],
            "reference_comparisons": ["responses"],
            "language_models": ["encoding"],
            "reward_models": [],
            "prefix_tuning": ["corpus", "base_models"],
        }
        for section, others in needs.items():
            for other in others if getattr(self, section) else []:
                if not getattr(self, other):
                    yield f"the section {section} needs the section {other}, which is missing"
        if self.responses and self.corpus and not self.corpus.prompts:
            yield f"corpus.{self.corpus.name}.prompts is 0, but responses needs prompts that are held out"
        if self.responses and self.pretraining:
            for name in sorted(self.responses.translators.keys() - self.pretraining.architectures.keys()):
                yield f"responses.translators: {_no(name, 'pretraining.architectures', self.pretraining.architectures)}"
        for name in sorted(self.comparisons.keys() & self.reference_comparisons.keys()):
            yield f"'{name}' is in comparisons and in reference_comparisons: rename one of them"
        collections = [*self.reference_comparisons, *self.comparisons]
        backbones = [
            *(f"language_models/{n}" for n in self.language_models),
            *(f"base_models/{n}" for n in self.base_models),
        ]
        for name, model in self.reward_models.variants.items() if self.reward_models else []:
            where = f"reward_models.variants.{name}"
            if model.backbone not in backbones:
                yield f"{where}.backbone: {_no(model.backbone, 'language_models and base_models', backbones)}"
            if model.collection not in collections:
                yield f"{where}.collection: {_no(model.collection, 'comparisons and reference_comparisons', collections)}"
        if self.prefix_tuning and self.base_models and self.prefix_tuning.base_model not in self.base_models:
            yield f"prefix_tuning.base_model: {_no(self.prefix_tuning.base_model, 'base_models', self.base_models)}"


def required(section: T | None) -> T:
    """A section of params.yaml that the running stage exists for."""
    assert section is not None
    return section


def _only_line(value: Any, section: str, expected: str) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(value, Mapping) or len(value) != 1 or not isinstance(next(iter(value.values())) or {}, Mapping):
        raise InputError(
            f"{PARAMS}: {section}: one line expected, {expected}, e.g. {_EXAMPLES[section]} (found {value!r})"
        )
    ((name, config),) = value.items()
    return str(name), config or {}


def _no(name: str, place: str, known: Iterable[str]) -> str:
    return f"there is no '{name}' in {place} - {nearest(name, list(known))}"


def load_params(path: Path = PARAMS) -> Params:
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
    if (number := format_of(values, where)) < FORMAT:
        renamed = "".join(f"{where}: {sentence}\n" for sentence in old_keys(values))
        raise InputError(
            f"{renamed}{where}: format {number}: the sections are arranged differently now (format {FORMAT}). To convert it, save it as "
            "experiments/NAME.yaml and run `gradus use NAME`."
        )
    return validated(Params, values, where)
