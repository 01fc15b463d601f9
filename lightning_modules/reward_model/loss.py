"""The loss of whole rankings (Ouyang et al. 2022, InstructGPT, eq. 1), its options, and the paper's training."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from core.config import Config
from lightning_modules.training.config import Optimizer, Schedule, TrainingConfig


class LossConfig(Config):
    """The loss of a ranking; the default is the paper's."""

    loss: Literal["pairwise", "plackett_luce"] = "pairwise"
    """`pairwise`: Ouyang et al. (2022), eq. 1. `plackett_luce`: -log P of the whole ranking (Luce 1959, Plackett 1975)."""
    ties: Literal["dropped", "soft"] = "dropped"
    """`dropped`: tied responses have no term, as in the paper. `soft`: a tied pair has the target 1/2."""
    margin: float = Field(default=0.0, ge=0)
    """Subtracted from r_w - r_l for each rank between the two. Paper: 0."""
    center_rewards_coefficient: float = Field(default=0.0, ge=0)
    """Factor of the mean of (r_w + r_l)^2 over the comparisons (Eisenstein et al. 2023). Paper: 0."""

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "LossConfig":
        if self.loss == "plackett_luce" and (self.margin or self.center_rewards_coefficient or self.ties == "soft"):
            raise ValueError("margin, center_rewards_coefficient and soft ties belong to the pairwise loss")
        return self


class RewardTrainingConfig(TrainingConfig):
    """The paper's values (C.2): one epoch, learning rate 9e-6, cosine to 10 %."""

    micro_batch_tokens: int = Field(default=8192, ge=1)
    """Tokens of one forward pass. An update takes as many passes as its `batch_size` needs."""
    optimizer: Optimizer = "adamw"
    learning_rate: float = Field(default=9e-6, gt=0)
    """The highest learning rate. Paper: 9e-6 (C.2)."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of the two moments. Paper: 0.9 and 0.95 (appendix C)."""
    lr_scheduler_type: Schedule = "cosine"
    """Paper: cosine to 10 % of the learning rate (C.2)."""


PAPERS_LOSS = LossConfig()


def comparisons(ranks: Tensor) -> Tensor:
    """(B, K, K) True at [b, w, l] where response w of ranking b ranks better than l."""
    ranked = ranks > 0
    return (ranks[:, :, None] < ranks[:, None, :]) & ranked[:, :, None] & ranked[:, None, :]


def ranking_loss(reward: Tensor, ranks: Tensor, config: LossConfig = PAPERS_LOSS) -> Tensor:
    """(B,) loss of each ranking; the default: -1 / C(K,2) * sum of log sigmoid(r(x, y_w) - r(x, y_l)) over its comparisons.

    Args:
        reward: (B, K), any value where there is no response.
        ranks: (B, K), 1 is best; equal ranks are ties and have no term; 0 where there is no response or it is not ranked.
    """
    if config.loss == "plackett_luce":
        return plackett_luce_loss(reward, ranks)
    strict = comparisons(ranks)
    difference = reward[:, :, None] - reward[:, None, :]
    distance = (ranks[:, None, :] - ranks[:, :, None]).to(reward.dtype)
    terms = -F.logsigmoid(difference - config.margin * distance).masked_fill(~strict, 0)
    if config.ties == "soft":  # both orders of a tied pair are in the sum, each with its half
        ranked = ranks > 0
        tied = (distance == 0) & ranked[:, :, None] & ranked[:, None, :]
        tied &= ~torch.eye(ranks.shape[1], dtype=torch.bool, device=ranks.device)
        terms = terms + (-0.5 * F.logsigmoid(difference)).masked_fill(~tied, 0)
    if config.center_rewards_coefficient:
        sums = (reward[:, :, None] + reward[:, None, :]).masked_fill(~strict, 0)
        terms = terms + config.center_rewards_coefficient * sums**2
    k = (ranks > 0).sum(1)
    return terms.sum((1, 2)) / (k * (k - 1) / 2)


def plackett_luce_loss(reward: Tensor, ranks: Tensor) -> Tensor:
    """(B,) -log of the ranking's probability under Plackett-Luce (Luce 1959, Plackett 1975), divided by its number of choices.

    Each response is chosen among itself and all that rank below it. So ties have no term, as in the paper's loss. With K = 2 it is the
    pairwise loss.
    """
    below = comparisons(ranks)
    itself = torch.eye(ranks.shape[1], dtype=torch.bool, device=ranks.device)
    log_sum = reward[:, None, :].masked_fill(~(below | itself), -torch.inf).logsumexp(2)  # (B, K) over the candidates
    chosen = below.any(2)
    return (log_sum - reward).masked_fill(~chosen, 0).sum(1) / chosen.sum(1).clamp(min=1)
