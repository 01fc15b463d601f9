"""How every translator is trained and scored."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from data.tokenizer import PAD
from lightning_modules.optimization import optimization
from lightning_modules.output_loss import projected_cross_entropy
from lightning_modules.translator import Translator, TranslatorTraining


class Translation(pl.LightningModule):
    """Maximum likelihood of the target given the source, the mean over target pieces (the end piece included)."""

    def __init__(self, model: Translator, settings: TranslatorTraining, steps_per_epoch: int) -> None:
        super().__init__()
        self.model, self.settings, self.steps_per_epoch = model, settings, steps_per_epoch
        self.validation_loss = MeanMetric()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        loss, tokens = cross_entropy(self.model, batch, self.settings.label_smoothing)
        return {"loss": loss / tokens, "tokens": tokens}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        loss, tokens = cross_entropy(self.model, batch)
        self.validation_loss.update(loss / tokens, weight=tokens)

    def on_validation_epoch_end(self) -> None:
        loss = self.validation_loss.compute()
        self.validation_loss.reset()
        self.log_dict({"validation_loss": loss, "validation_perplexity": loss.exp()})

    def configure_optimizers(self) -> Any:
        return optimization(self.model.parameters(), self.settings, self.steps_per_epoch, self.model.width)


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
