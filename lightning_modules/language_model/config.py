"""A small causal language model of the corpus: a `transformers` model from a configuration, so any tool loads it."""

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from core.config import Settings
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.training.config import OptimizationSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LanguageModelSettings(Settings):
    """Sizes of a Llama-type model, and its training."""

    layers: int = Field(default=4, ge=1)
    hidden: int = Field(default=192, ge=1)
    feed_forward: int = Field(default=512, ge=1)
    heads: int = Field(default=4, ge=1)
    key_value_heads: int = Field(default=4, ge=1)
    max_positions: int = Field(default=512, ge=1)
    training: OptimizationSettings = OptimizationSettings(
        optimizer="adamw", learning_rate=2e-3, schedule="cosine", warmup_steps=50, weight_decay=0.01
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> "LanguageModelSettings":
        if self.hidden % (2 * self.heads) or self.heads % self.key_value_heads:
            raise ValueError("hidden must be a multiple of 2 x heads, and heads one of key_value_heads")
        return self


def build_language_model(settings: LanguageModelSettings, vocabulary: int) -> "PreTrainedModel":
    """A model with fresh weights; input and output embeddings are shared."""
    from transformers import AutoModelForCausalLM, LlamaConfig  # seconds, which reading the settings need not cost

    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=settings.hidden, intermediate_size=settings.feed_forward,
        num_hidden_layers=settings.layers, num_attention_heads=settings.heads, num_key_value_heads=settings.key_value_heads,
        max_position_embeddings=settings.max_positions, tie_word_embeddings=True,
        pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END,
    )  # fmt: skip
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model
