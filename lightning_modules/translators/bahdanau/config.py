"""Config of RNNsearch (Bahdanau, Cho & Bengio 2014)."""

from typing import ClassVar, Literal

from pydantic import Field

from lightning_modules.training.config import Optimizer
from lightning_modules.translators.config import Presets, TranslatorConfig, TranslatorTrainingConfig


class BahdanauTrainingConfig(TranslatorTrainingConfig):
    """For small data."""

    learning_rate: float = Field(default=1e-3, gt=0)
    optimizer: Optimizer = "adam"
    num_train_epochs: int = Field(default=10, ge=1)
    max_grad_norm: float | None = Field(default=1.0, gt=0)


class BahdanauConfig(TranslatorConfig):
    """Sizes, each with the paper's symbol (A.2.3)."""

    embedding_dim: int = Field(default=256, ge=1)
    """Width of the embeddings, m. Paper: 620 (A.2.3)."""
    hidden_size: int = Field(default=256, ge=1)
    """Units of each network, n. Paper: 1000 (A.2.3)."""
    attention_size: int = Field(default=256, ge=1)
    """Hidden units of the alignment model, n'. Paper: 1000 (A.2.3)."""
    maxout_size: int = Field(default=128, ge=1)
    """Maxout units of the output layer, l. Paper: 500 (A.2.3)."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout on embeddings, annotations and maxout units. Paper: 0."""
    readout: Literal["previous", "current"] = "previous"
    """The state that the output layer reads: `previous`, s_{i-1} (A.2.2); `current`, s_i (eq. 4)."""
    training: BahdanauTrainingConfig = BahdanauTrainingConfig()
    """How it is trained. Default: for small data; the preset `paper` has the paper's."""

    presets: ClassVar[Presets] = {
        "paper": {  # A.2.3 and B.2: the sizes, Adadelta with rho .95 and epsilon 1e-6, batches of 80 sentences (of about 30 words)
            "embedding_dim": 620,
            "hidden_size": 1000,
            "attention_size": 1000,
            "maxout_size": 500,
            "dropout": 0.0,
            "readout": "previous",
            "training": {
                "optimizer": "adadelta",
                "learning_rate": 1.0,
                "max_grad_norm": 1.0,
                "batch_tokens": 80 * 30,
                "normalization": "batch",
                "num_train_epochs": 5,
            },
        }
    }


Config = BahdanauConfig
