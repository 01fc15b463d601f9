"""Config of global and local attention with input feeding (Luong, Pham & Manning 2015)."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from lightning_modules.training.config import Optimizer, Schedule
from lightning_modules.translators.config import Presets, TranslatorConfig, TranslatorTrainingConfig


class LuongTrainingConfig(TranslatorTrainingConfig):
    """The paper's (4.1) with dropout."""

    optimizer: Optimizer = "sgd"
    lr_scheduler_type: Schedule = "halving"
    learning_rate: float = Field(default=1.0, gt=0)
    """The highest learning rate. Paper: 1 (4.1)."""
    halve_after: float = 8
    """Only with `halving`: epochs at the full rate. Paper: 8 with dropout, 5 without (4.1)."""
    num_train_epochs: int = Field(default=12, ge=1)
    """Times that all training data is seen. Paper: 12 with dropout, 10 without (4.1)."""
    max_grad_norm: float | None = Field(default=5.0, gt=0)
    """A longer gradient is scaled to this norm. Paper: 5 (4.1)."""


class LuongConfig(TranslatorConfig):
    """Sizes for small data; the preset `paper` has the paper's."""

    num_layers: int = Field(default=1, ge=1)
    """LSTM layers of encoder and of decoder. Paper: 4 (4.1)."""
    embedding_dim: int = Field(default=256, ge=1)
    """Width of the embeddings. Paper: 1000 (4.1)."""
    hidden_size: int = Field(default=256, ge=1)
    """Cells of a layer. Paper: 1000 (4.1)."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout on embeddings, between layers, on source states, and on h_t and h~_t. Paper: 0.2 (4.1)."""
    score: Literal["dot", "general", "concat", "location"] = "general"
    """The score of a source position (3.1): content-based `dot`, `general` or `concat`, or `location` (eq. 8)."""
    max_source_length: int = Field(default=65, ge=1)
    """Only with `score: location`: rows of W_a, the source tokens that it can attend to, with the end token."""
    attention: Literal["global", "local-m", "local-p"] = "global"
    """`global`: all source positions (3.1). `local-m`, `local-p`: a window around a monotonic or predicted position (3.2)."""
    D: int = Field(default=10, ge=1)
    """Only with local attention: the window is p_t - D .. p_t + D, and sigma = D / 2. Paper: 10 (4.1)."""
    input_feeding: bool = True
    """The decoder reads h~_t of the step before (3.3)."""
    reverse_source: bool = True
    """The source is read backwards, as in the paper (4.1)."""
    init: float = Field(default=0.1, gt=0)
    """Weights start uniform between minus this and this. Paper: 0.1 (4.1)."""
    training: LuongTrainingConfig = LuongTrainingConfig()
    """How it is trained. Default: the paper's, with dropout (4.1)."""

    @model_validator(mode="after")
    def _location_is_global(self) -> Self:
        if self.score == "location" and self.attention != "global":
            raise ValueError(f"score 'location' is for global attention (found attention '{self.attention}')")
        return self

    presets: ClassVar[Presets] = {
        "paper": {  # 4.1: 4 layers of 1000 cells, dropout .2, sentences of at most 50 words, batches of about 128
            "num_layers": 4,
            "embedding_dim": 1000,
            "hidden_size": 1000,
            "dropout": 0.2,
            "init": 0.1,
            "max_source_length": 51,
            "training": {"batch_tokens": 128 * 25, "normalization": "batch"},
        }
    }


Config = LuongConfig
