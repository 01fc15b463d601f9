"""Config of a prefix."""

from typing import Literal

from pydantic import Field

from core.config import Config
from lightning_modules.training.config import Optimizer, Schedule, TokenTrainingConfig


class PrefixTrainingConfig(TokenTrainingConfig):
    """How a prefix is trained. Defaults: Li & Liang (2021, 5.3)."""

    num_train_epochs: int = Field(default=10, ge=1)
    optimizer: Optimizer = "adamw"
    learning_rate: float = Field(default=5e-5, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    lr_scheduler_type: Schedule = "linear"
    batch_tokens: int = Field(default=512, ge=1)
    """Tokens of one update: an input once, and all its targets. Nothing is padded, unless the base cannot share prompts."""


class PrefixConfig(Config):
    """A prefix and its training."""

    num_virtual_tokens: int = Field(default=10, ge=1)
    """Virtual tokens, |P_idx|. Li & Liang (2021, 7.1): 10 for table-to-text, 200 for summarization."""
    prefix_projection: bool = True
    """`true`: P = MLP(P') while training (Li & Liang 2021, 4.3). `false`: P itself is trained."""
    projection_input_size: int = Field(default=512, ge=1)
    """Width of P', the input of the MLP, k. Li & Liang (2021, 4.3): 512 for table-to-text, 800 for summarization."""
    encoder_hidden_size: int = Field(default=512, ge=1)
    """Hidden units of the MLP. Authors' code: 512 for table-to-text."""
    prompt_tuning_init_text: str | None = None
    """P starts from the activations of this text (Li & Liang 2021, 7.4), cut or repeated to `num_virtual_tokens`. `null`: random values."""
    position: Literal["prefix", "infix"] = "prefix"
    """`prefix`: [P; x; y]. `infix`: [x; P; y] (Li & Liang 2021, 7.3)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on P while training."""
    training: PrefixTrainingConfig = PrefixTrainingConfig()
    """How it is trained."""
