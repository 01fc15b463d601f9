"""The config that every translator has, and where those of the architectures are. Nothing here needs torch."""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from core.config import Config, merged, nearest
from core.errors import InputError
from lightning_modules.training.config import TokenTrainingConfig

Presets = Mapping[str, Mapping[str, Any]]  # values of a config by the name of a preset


class TranslatorTrainingConfig(TokenTrainingConfig):
    """How a translator is trained."""

    batch_tokens: int = Field(default=2048, ge=1)
    """Target tokens of one update, padding included. It has at most 8 times as many source tokens."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """epsilon_ls: the share of a target's probability that is spread over the vocabulary (Vaswani et al. 2017, 5.4)."""
    # Papers with "batch" have learning rates and norms for it: the gradient is as many times longer as a sentence has tokens.
    normalization: Literal["tokens", "batch"] = "tokens"
    """What the loss of a batch is the mean over: `tokens`, target tokens; `batch`, sentences."""


class TranslatorConfig(Config):
    """Settings of an architecture: sizes, and its training. Defaults are for small data.

    `preset: NAME` stands for the settings of that name in `presets`, e.g. those of the paper; other keys change them.
    """

    presets: ClassVar[Presets] = {}

    init_from: str | None = None
    """Start from the weights of this translator: a model folder. `null`: from random weights."""
    training: TranslatorTrainingConfig = TranslatorTrainingConfig()
    """How it is trained."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "preset" not in values:
            return values
        name = str(values["preset"])
        if name not in cls.presets:
            raise ValueError(f"unknown preset '{name}' - {nearest(name, list(cls.presets))}")
        return merged(cls.presets[name], {key: value for key, value in values.items() if key != "preset"})


def architectures() -> list[str]:
    """Names of all translators: the packages beside this file."""
    return sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.ispkg)


def architecture_module(name: str, module: Literal["config", "model"], where: str) -> ModuleType:
    """A module of the package `name`. Raises InputError on an unknown name; `where` is the key that has it."""
    if name not in architectures():
        raise InputError(f"{where}: unknown architecture '{name}' - {nearest(name, architectures())}")
    return importlib.import_module(f"lightning_modules.translators.{name}.{module}")


def architecture_config(name: str, where: str) -> type[TranslatorConfig]:
    """The config of an architecture. Raises InputError on an unknown name; `where` is the key that has it."""
    config: type[TranslatorConfig] = architecture_module(name, "config", where).Config
    return config
