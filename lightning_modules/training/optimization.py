"""Optimizers and learning-rate schedules, as the papers name them."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from lightning_modules.training.config import TrainingConfig


def optimization(
    parameters: Iterable[nn.Parameter], settings: TrainingConfig, steps_per_epoch: int, width: int = 1
) -> dict[str, Any]:
    """Optimizer and per-step schedule in the form that `LightningModule.configure_optimizers` returns.

    `width` is d_model, used by the schedule "noam" only.
    """
    trained = [p for p in parameters if p.requires_grad]
    optimizer: torch.optim.Optimizer
    rate, decay = settings.learning_rate, settings.weight_decay
    match settings.optimizer:
        case "sgd":
            optimizer = torch.optim.SGD(trained, lr=rate, weight_decay=decay)
        case "adadelta":  # rho and epsilon of Cho et al. (2014) and Bahdanau et al. (2014)
            optimizer = torch.optim.Adadelta(trained, lr=rate, rho=0.95, eps=1e-6, weight_decay=decay)
        case "adam":
            optimizer = torch.optim.Adam(
                trained, lr=rate, betas=settings.betas, eps=1e-9, weight_decay=decay, fused=True
            )
        case "adamw":
            optimizer = torch.optim.AdamW(trained, lr=rate, betas=settings.betas, weight_decay=decay, fused=True)
    factor = schedule(settings, steps_per_epoch, width)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def clip(parameters: Iterable[nn.Parameter], settings: TrainingConfig) -> None:
    """Scales the gradient to norm `max_grad_norm` where it is longer. Not left to Lightning, which refuses fused optimizers under bf16."""
    if settings.max_grad_norm:
        nn.utils.clip_grad_norm_([p for p in parameters if p.requires_grad], settings.max_grad_norm)


def schedule(settings: TrainingConfig, steps_per_epoch: int, width: int = 1) -> Callable[[int], float]:
    """The factor on the learning rate at update `step` = 0, 1, ..."""
    warmup, total = settings.warmup_steps, max(1, settings.num_train_epochs * steps_per_epoch)

    def factor(step: int) -> float:
        if settings.lr_scheduler_type == "noam":  # Vaswani et al. (2017), eq. 3; steps count from 1
            step += 1
            return width**-0.5 * min(step**-0.5, step * max(1, warmup) ** -1.5)
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        match settings.lr_scheduler_type:
            case "cosine":
                return settings.min_lr_rate + (1 - settings.min_lr_rate) * (1 + math.cos(math.pi * progress)) / 2
            case "linear":
                return 1 - progress
            case "halving":  # Sutskever et al. (2014), 3.4; Luong et al. (2015), 4.1
                late = step / steps_per_epoch - settings.halve_after
                return 0.5 ** (math.floor(late / settings.halve_every) + 1) if late >= 0 else 1.0
        return 1.0

    return factor
