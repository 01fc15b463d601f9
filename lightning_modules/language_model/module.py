"""How a causal language model is trained."""

from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from data.tokenizer import PAD
from lightning_modules.training.config import TrainingConfig
from lightning_modules.training.likelihood import MaximumLikelihoodModule
from lightning_modules.training.output_loss import projected_cross_entropy


class LanguageModelModule(MaximumLikelihoodModule):
    """Next-token prediction over the texts [begin] source [separator] target [end]."""

    model: PreTrainedModel

    def __init__(self, model: PreTrainedModel, config: TrainingConfig, steps_per_epoch: int) -> None:
        super().__init__(model, config, steps_per_epoch, model.config.hidden_size)

    def loss(self, text: Tensor) -> tuple[Tensor, int]:
        """Summed cross entropy, in nats, of all tokens of `text` (B, T) after the first, and their number."""
        states = self.model.base_model(text, use_cache=False).last_hidden_state
        return next_token_loss(states, self.model.get_output_embeddings(), text, text != PAD)


def next_token_loss(states: Tensor, layer: nn.Module, text: Tensor, counted: Tensor) -> tuple[Tensor, int]:
    """Summed cross entropy, in nats, of the tokens of a text that count, and their number.

    Padding is on the right, where causal attention keeps it from every token that counts.

    Args:
        states: (B, T, d) last hidden states; layer: the linear output layer, (V, d), with or without a bias.
        text: (B, T) token ids; counted: (B, T) True on the tokens to predict. The first token of a text never is.
    """
    real = counted[:, 1:]
    features = states[:, :-1][real]
    weight, bias = cast(Tensor, layer.weight), cast(Tensor | None, getattr(layer, "bias", None))
    return projected_cross_entropy(features, weight, bias, text[:, 1:][real]), len(features)
