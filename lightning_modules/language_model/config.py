"""A small causal language model of the corpus: a `transformers` model from a configuration, so any tool loads it."""

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from core.config import Config
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.training.config import Optimizer, Schedule, TokenTrainingConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LanguageModelTrainingConfig(TokenTrainingConfig):
    """How the language model is trained."""

    optimizer: Optimizer = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0)
    lr_scheduler_type: Schedule = "cosine"
    warmup_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    batch_tokens: int = Field(default=2048, ge=1)
    """Tokens of one update, of both sides of its pairs, padding included."""


class LanguageModelConfig(Config):
    """Sizes of a Llama-type model, and its training."""

    num_hidden_layers: int = Field(default=4, ge=1)
    """Layers of the decoder."""
    hidden_size: int = Field(default=192, ge=1)
    """Width of the states: a multiple of 2 x `num_attention_heads`."""
    intermediate_size: int = Field(default=512, ge=1)
    """Width of the feed-forward layers."""
    num_attention_heads: int = Field(default=4, ge=1)
    """Heads of the queries: a multiple of `num_key_value_heads`."""
    num_key_value_heads: int = Field(default=4, ge=1)
    """Heads of keys and values. Fewer than `num_attention_heads`: grouped-query attention (Ainslie et al. 2023)."""
    max_position_embeddings: int = Field(default=512, ge=1)
    """Tokens of the longest text that the model reads."""
    init_from: str | None = None
    """Start from the weights of this language model: a model folder. `null`: from random weights."""
    training: LanguageModelTrainingConfig = LanguageModelTrainingConfig()
    """How it is trained."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "LanguageModelConfig":
        if self.hidden_size % (2 * self.num_attention_heads) or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                "hidden_size must be a multiple of 2 x num_attention_heads, and num_attention_heads one of num_key_value_heads"
            )
        return self


def build_language_model(config: LanguageModelConfig, vocab_size: int) -> "PreTrainedModel":
    """A model with fresh weights; input and output embeddings are shared."""
    from transformers import AutoModelForCausalLM, LlamaConfig  # seconds, which reading a config need not cost

    sizes = config.model_dump(exclude={"init_from", "training"})  # under the names of LlamaConfig
    llama = LlamaConfig(
        vocab_size=vocab_size, tie_word_embeddings=True, pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END, **sizes
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(llama)
    return model
