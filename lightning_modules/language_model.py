"""A small causal language model of the corpus: a `transformers` model from a configuration, so any tool loads it."""

from typing import cast

from pydantic import Field, model_validator
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from data.settings import Settings
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.likelihood import MaximumLikelihood
from lightning_modules.optimization import OptimizationSettings
from lightning_modules.output_loss import projected_cross_entropy


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


def build_language_model(settings: LanguageModelSettings, vocabulary: int) -> PreTrainedModel:
    """A model with fresh weights; input and output embeddings are shared."""
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=settings.hidden, intermediate_size=settings.feed_forward,
        num_hidden_layers=settings.layers, num_attention_heads=settings.heads, num_key_value_heads=settings.key_value_heads,
        max_position_embeddings=settings.max_positions, tie_word_embeddings=True,
        pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END,
    )  # fmt: skip
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


class LanguageModel(MaximumLikelihood):
    """Next-piece prediction over the texts [begin] source [separator] target [end]."""

    def __init__(self, model: PreTrainedModel, settings: OptimizationSettings, steps_per_epoch: int) -> None:
        super().__init__(model, settings, steps_per_epoch)

    def loss(self, text: Tensor) -> tuple[Tensor, int]:
        """Summed cross entropy of all pieces of `text` (B, T) after the first, and their number."""
        model = cast(PreTrainedModel, self.trained)
        states = model.base_model(text, use_cache=False).last_hidden_state
        return next_piece_loss(states, cast(Tensor, model.get_output_embeddings().weight), text, text != PAD)


def next_piece_loss(states: Tensor, weight: Tensor, text: Tensor, counted: Tensor) -> tuple[Tensor, int]:
    """Summed cross entropy of the pieces of a text that count, and their number.

    Padding stands on the right, where causal attention keeps it from every piece that counts.

    Args:
        states: (B, T, d) last hidden states; weight: (V, d) of the output layer.
        text: (B, T) piece ids; counted: (B, T) True on the pieces to predict. The first piece of a text never is.
    """
    real = counted[:, 1:]
    features = states[:, :-1][real]
    return projected_cross_entropy(features, weight, None, text[:, 1:][real]), len(features)
