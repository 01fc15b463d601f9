"""How every translator is trained and scored."""

from typing import cast

import torch
from torch import Tensor

from data.tokenizer import PAD
from lightning_modules.likelihood import MaximumLikelihood
from lightning_modules.output_loss import projected_cross_entropy
from lightning_modules.translator import Translator, TranslatorTraining


class Translation(MaximumLikelihood):
    """Maximum likelihood of the target given the source, over its pieces and the end piece; label smoothing in training."""

    def __init__(self, model: Translator, settings: TranslatorTraining, steps_per_epoch: int) -> None:
        super().__init__(model, settings, steps_per_epoch, model.width)
        self.label_smoothing = settings.label_smoothing

    @property
    def model(self) -> Translator:
        return cast(Translator, self.trained)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        return cross_entropy(self.model, batch, self.label_smoothing if self.training else 0.0)


def cross_entropy(model: Translator, batch: dict[str, Tensor], smoothing: float = 0.0) -> tuple[Tensor, int]:
    """Summed cross entropy of a batch's target pieces, and their number."""
    target = batch["target"]
    real = target[:, 1:] != PAD
    features = model(batch["source"], target[:, :-1])[real]
    weight, bias = model.output
    return projected_cross_entropy(features, weight, bias, target[:, 1:][real], smoothing), len(features)


@torch.inference_mode()
def log_probability(model: Translator, source: Tensor, target: Tensor) -> Tensor:
    """(B,) log p(target | source), summed over the pieces of `target` (B, 1 + T), which starts with the begin piece."""
    weight, bias = model.output
    scores = torch.log_softmax(torch.nn.functional.linear(model(source, target[:, :-1]), weight, bias), dim=-1)
    picked = scores.gather(2, target[:, 1:, None]).squeeze(2)
    return picked.masked_fill(target[:, 1:] == PAD, 0).sum(1)
