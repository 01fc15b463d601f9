"""Maximum likelihood: how translators, language models and prefixes are trained."""

from abc import abstractmethod
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from lightning_modules.training.config import TrainingConfig
from lightning_modules.training.optimization import clip, optimization


class MaximumLikelihoodModule(pl.LightningModule):
    """Minimises the mean cross entropy of the tokens to predict; validation gives its exponential, the perplexity."""

    def __init__(self, model: nn.Module, config: TrainingConfig, steps_per_epoch: int, hidden_size: int) -> None:
        """`model` has the parameters to optimize; `hidden_size` is the width of the hidden states, see `optimization.schedule`."""
        super().__init__()
        self.model, self.config = model, config
        self.steps_per_epoch, self.hidden_size = steps_per_epoch, hidden_size
        self.validation_loss = MeanMetric()

    @abstractmethod
    def loss(self, batch: Any) -> tuple[Tensor, int]:
        """Summed cross entropy of a batch, in nats, and the number of tokens in the sum."""

    def divisor(self, batch: Any, tokens: int) -> int:
        """What a batch's summed loss is divided by for its gradient: here the number of tokens in the sum."""
        return tokens

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """The mean loss of a batch that n processes share: each gives n times its part of it, as gradients are averaged over them."""
        loss, tokens = self.loss(batch)
        divisor, processes = self.divisor(batch, tokens), 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            processes, totals = torch.distributed.get_world_size(), torch.tensor([tokens, divisor], device=self.device)
            torch.distributed.all_reduce(totals)
            tokens, divisor = totals.tolist()
        return {
            "loss": loss * processes / divisor,
            "train_loss": loss.detach() * processes / tokens,  # per token, whatever the gradient is divided by
            "tokens": tokens,
        }

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss, tokens = self.loss(batch)
        self.validation_loss.update(loss / tokens, weight=tokens)

    def on_validation_epoch_end(self) -> None:
        loss = self.validation_loss.compute()
        self.validation_loss.reset()
        self.log_dict({"validation_loss": loss, "validation_perplexity": loss.exp()})

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        clip(self.model.parameters(), self.config)

    def configure_optimizers(self) -> Any:
        return optimization(self.model.parameters(), self.config, self.steps_per_epoch, self.hidden_size)
