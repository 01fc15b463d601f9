"""Sections `pretraining`, `evaluation` and `responses`: which translators are trained, and what they translate."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from core.config import Config, validated
from lightning_modules.decoding.hypotheses import DecodingConfig
from lightning_modules.translators.config import TranslatorConfig, architecture_config
from stages.configs import PARAMS, ItemName, inherited


class PretrainingConfig(Config):
    """The translators to train."""

    architectures: dict[ItemName, SerializeAsAny[TranslatorConfig]] = Field(min_length=1)
    """One line for each: the name of a package of lightning_modules/translators, and what differs from its defaults."""

    @field_validator("architectures", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("a mapping from architectures to their configs expected")
        where = f"{PARAMS}: pretraining.architectures"
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


class TranslatorResponsesConfig(Config):
    """What a translator answers to a prompt: hypotheses of one beam search, and samples."""

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


class ResponsesConfig(Config):
    """Which translators answer the held-out prompts, and how."""

    common: TranslatorResponsesConfig
    """What all of them have in common."""
    translators: dict[ItemName, TranslatorResponsesConfig] = Field(min_length=1)
    """One line for each: an architecture of `pretraining`, and what differs from `common`."""

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, values: Any) -> Any:
        return inherited(TranslatorResponsesConfig, values, "responses", "translators")
