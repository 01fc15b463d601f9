"""params.yaml as a whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, SerializeAsAny, field_validator

from core.config import Config, read_yaml, validated
from core.errors import InputError
from core.format_1 import FORMAT
from core.pipeline_config import PipelineConfig
from data import corpora
from data.corpora import CorpusConfig
from data.encoding_config import EncodingConfig
from data.tokenizer_training import TokenizerConfig
from lightning_modules.language_model.config import LanguageModelConfig
from stages.configs import PARAMS
from stages.configs.comparisons import ComparisonsConfig
from stages.configs.long_lag import LongLagConfig
from stages.configs.prefix_tuning import BaseModelConfig, PrefixTuningConfig
from stages.configs.reward_models import RewardModelsConfig
from stages.configs.translators import EvaluationConfig, PretrainingConfig, ResponsesConfig


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
        return corpora.corpus_config(value if isinstance(value, Mapping) else {}, f"{PARAMS}: corpus")


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
    return validated(Params, values, where)
