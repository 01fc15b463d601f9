"""How every translator is trained."""

from torch import Tensor

from data.tokenizer import PAD
from lightning_modules.training.likelihood import MaximumLikelihoodModule
from lightning_modules.training.output_loss import projected_cross_entropy
from lightning_modules.translators.base import Translator
from lightning_modules.translators.config import TranslatorTrainingConfig


class TranslatorModule(MaximumLikelihoodModule):
    """Maximum likelihood of the target given the source, over its tokens and the end token; label smoothing in training.

    A batch has `source` (B, S) and `target` (B, 1 + T), which starts with the begin token.
    """

    model: Translator

    def __init__(self, model: Translator, config: TranslatorTrainingConfig, steps_per_epoch: int) -> None:
        super().__init__(model, config, steps_per_epoch, model.hidden_size)
        self.label_smoothing, self.normalization = config.label_smoothing, config.normalization

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        return cross_entropy(self.model, batch, self.label_smoothing if self.training else 0.0)

    def divisor(self, batch: dict[str, Tensor], tokens: int) -> int:
        return tokens if self.normalization == "tokens" else len(batch["target"])


def cross_entropy(model: Translator, batch: dict[str, Tensor], smoothing: float = 0.0) -> tuple[Tensor, int]:
    """Summed cross entropy of a batch's target tokens, in nats, and their number."""
    target = batch["target"]
    real = target[:, 1:] != PAD
    features = model(batch["source"], target[:, :-1])[real]
    weight, bias = model.output
    return projected_cross_entropy(features, weight, bias, target[:, 1:][real], smoothing), len(features)
