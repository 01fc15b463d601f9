"""Config of a reward model's loss and training (Ouyang et al. 2022)."""

from typing import Literal

from pydantic import Field, model_validator

from core.config import Config
from lightning_modules.training.config import Optimizer, Schedule, TrainingConfig


class LossConfig(Config):
    """The loss of a ranking; the default is the paper's."""

    loss_type: Literal["pairwise", "plackett_luce"] = "pairwise"
    """`pairwise`: Ouyang et al. (2022), eq. 1. `plackett_luce`: -log P of the whole ranking (Luce 1959, Plackett 1975)."""
    ties: Literal["dropped", "soft"] = "dropped"
    """`dropped`: tied responses have no term, as in the paper. `soft`: a tied pair has the target 1/2."""
    margin: float = Field(default=0.0, ge=0)
    """Subtracted from r_w - r_l for each rank between the two. Paper: 0."""
    center_rewards_coefficient: float = Field(default=0.0, ge=0)
    """Factor of the mean of (r_w + r_l)^2 over the comparisons (Eisenstein et al. 2023). Paper: 0."""

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "LossConfig":
        if self.loss_type == "plackett_luce" and (
            self.margin or self.center_rewards_coefficient or self.ties == "soft"
        ):
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
    """Only with `adam` and `adamw`: decay rates of the two moments. Paper: 0.9 and 0.95 (appendix C)."""
    lr_scheduler_type: Schedule = "cosine"
    """Paper: cosine to 10 % of the learning rate (C.2)."""
