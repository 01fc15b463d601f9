"""How a causal language model is trained."""

from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from data.tokenizer import PAD
from lightning_modules.training.config import OptimizationSettings
from lightning_modules.training.likelihood import MaximumLikelihood
from lightning_modules.training.output_loss import projected_cross_entropy


class LanguageModel(MaximumLikelihood):
    """Next-piece prediction over the texts [begin] source [separator] target [end]."""

    def __init__(self, model: PreTrainedModel, settings: OptimizationSettings, steps_per_epoch: int) -> None:
        super().__init__(model, settings, steps_per_epoch)

    def loss(self, text: Tensor) -> tuple[Tensor, int]:
        """Summed cross entropy of all pieces of `text` (B, T) after the first, and their number."""
        model = cast(PreTrainedModel, self.trained)
        states = model.base_model(text, use_cache=False).last_hidden_state
        return next_piece_loss(states, model.get_output_embeddings(), text, text != PAD)


def next_piece_loss(states: Tensor, layer: nn.Module, text: Tensor, counted: Tensor) -> tuple[Tensor, int]:
    """Summed cross entropy of the pieces of a text that count, and their number.

    Padding stands on the right, where causal attention keeps it from every piece that counts.

    Args:
        states: (B, T, d) last hidden states; layer: the linear output layer, (V, d), with or without a bias.
        text: (B, T) piece ids; counted: (B, T) True on the pieces to predict. The first piece of a text never is.
    """
    real = counted[:, 1:]
    features = states[:, :-1][real]
    weight, bias = cast(Tensor, layer.weight), cast(Tensor | None, getattr(layer, "bias", None))
    return projected_cross_entropy(features, weight, bias, text[:, 1:][real]), len(features)
