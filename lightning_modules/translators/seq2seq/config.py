"""Config of sequence to sequence learning with deep LSTMs (Sutskever, Vinyals & Le 2014)."""

from typing import ClassVar

from pydantic import Field

from lightning_modules.training.config import Optimizer, Schedule
from lightning_modules.translators.config import Presets, TranslatorConfig, TranslatorTrainingConfig


class Seq2SeqTrainingConfig(TranslatorTrainingConfig):
    """The paper's (3.4): plain SGD, its rate halved every half epoch after the fifth."""

    optimizer: Optimizer = "sgd"
    lr_scheduler_type: Schedule = "halving"
    learning_rate: float = Field(default=0.7, gt=0)
    """The highest learning rate. Paper: 0.7 (3.4)."""
    halve_after: float = 5
    """Only with `halving`: epochs at the full rate. Paper: 5 (3.4)."""
    halve_every: float = Field(default=0.5, gt=0)
    """Only with `halving`: epochs between two halvings after that. Paper: 0.5 (3.4)."""
    num_train_epochs: int = Field(default=8, ge=1)
    """Times that all training data is seen. Paper: 7.5 (3.4)."""
    max_grad_norm: float | None = Field(default=5.0, gt=0)
    """A longer gradient is scaled to this norm. Paper: 5 (3.4)."""


class Seq2SeqConfig(TranslatorConfig):
    """Sizes for small data; the preset `paper` has the paper's."""

    num_layers: int = Field(default=2, ge=1)
    """LSTM layers of encoder and of decoder. Paper: 4 (3.4)."""
    embedding_dim: int = Field(default=256, ge=1)
    """Width of the embeddings. Paper: 1000 (3.4)."""
    hidden_size: int = Field(default=256, ge=1)
    """Cells of a layer. Paper: 1000 (3.4)."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout on embeddings, between layers and before the softmax (Zaremba et al. 2014). Paper: 0."""
    reverse_source: bool = True
    """The source is read backwards, as in the paper (3.3)."""
    init: float = Field(default=0.08, gt=0)
    """Weights start uniform between minus this and this. Paper: 0.08 (3.4)."""
    training: Seq2SeqTrainingConfig = Seq2SeqTrainingConfig()
    """How it is trained. Default: the paper's (3.4)."""

    presets: ClassVar[Presets] = {
        "paper": {  # 3.4: 4 layers of 1000 cells, embeddings of 1000, no dropout, batches of about 128 sentences
            "num_layers": 4,
            "embedding_dim": 1000,
            "hidden_size": 1000,
            "dropout": 0.0,
            "reverse_source": True,
            "init": 0.08,
            "training": {"batch_tokens": 128 * 25, "normalization": "batch"},
        }
    }


Config = Seq2SeqConfig
