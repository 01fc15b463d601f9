"""Optimizers and learning-rate schedules, as the papers name them."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from lightning_modules.training.config import TrainingConfig


def optimization(
    parameters: Iterable[nn.Parameter], config: TrainingConfig, steps_per_epoch: int, hidden_size: int
) -> dict[str, Any]:
    """Optimizer and per-step schedule in the form that `LightningModule.configure_optimizers` returns; see `schedule`."""
    trained = [p for p in parameters if p.requires_grad]
    optimizer: torch.optim.Optimizer
    rate, decay = config.learning_rate, config.weight_decay
    match config.optimizer:
        case "sgd":
            optimizer = torch.optim.SGD(trained, lr=rate, weight_decay=decay)
        case "adadelta":  # rho and epsilon of Cho et al. (2014) and Bahdanau et al. (2014)
            optimizer = torch.optim.Adadelta(trained, lr=rate, rho=0.95, eps=1e-6, weight_decay=decay)
        case "adam":
            optimizer = torch.optim.Adam(trained, lr=rate, betas=config.betas, eps=1e-9, weight_decay=decay, fused=True)
        case "adamw":
            optimizer = torch.optim.AdamW(trained, lr=rate, betas=config.betas, weight_decay=decay, fused=True)
    factor = schedule(config, steps_per_epoch, hidden_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def clip(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> None:
    """Scales the gradient to norm `max_grad_norm` where it is longer. Lightning would refuse to, with fused optimizers under bf16."""
    if config.max_grad_norm:
        nn.utils.clip_grad_norm_([p for p in parameters if p.requires_grad], config.max_grad_norm)


def schedule(config: TrainingConfig, steps_per_epoch: int, hidden_size: int) -> Callable[[int], float]:
    """The factor on the learning rate at update `step` = 0, 1, ...

    Args:
        steps_per_epoch: updates of an epoch, in which `halving` counts.
        hidden_size: the width of the model's hidden states, or of its frozen base's. It is d_model of `noam`.
    """
    warmup, total = config.warmup_steps, max(1, config.num_train_epochs * steps_per_epoch)

    def factor(step: int) -> float:
        # d_model^-.5 min(step^-.5, step warmup^-1.5) (Vaswani et al. 2017, eq. 3)
        if config.lr_scheduler_type == "noam":
            step += 1  # the paper's steps count from 1
            return hidden_size**-0.5 * min(step**-0.5, step * max(1, warmup) ** -1.5)
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        match config.lr_scheduler_type:
            case "cosine":
                return config.min_lr_rate + (1 - config.min_lr_rate) * (1 + math.cos(math.pi * progress)) / 2
            case "linear":
                return 1 - progress
            case "halving":  # Sutskever et al. (2014), 3.4; Luong et al. (2015), 4.1
                late = step / steps_per_epoch - config.halve_after
                return 0.5 ** (math.floor(late / config.halve_every) + 1) if late >= 0 else 1.0
        return 1.0

    return factor
