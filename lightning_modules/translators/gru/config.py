"""Config of the RNN Encoder-Decoder (Cho et al. 2014)."""

from typing import ClassVar, Literal

from pydantic import Field

from lightning_modules.training.config import Optimizer
from lightning_modules.translators.config import Presets, TranslatorConfig, TranslatorTrainingConfig


class GRUTrainingConfig(TranslatorTrainingConfig):
    """For small data."""

    learning_rate: float = Field(default=1e-3, gt=0)
    optimizer: Optimizer = "adam"
    num_train_epochs: int = Field(default=10, ge=1)
    max_grad_norm: float | None = Field(default=1.0, gt=0)


class GRUConfig(TranslatorConfig):
    """Sizes (4.1)."""

    embedding_dim: int = Field(default=256, ge=1)
    """Width of the embeddings. Paper: 100 (4.1)."""
    hidden_size: int = Field(default=256, ge=1)
    """Units of each network, n. Paper: 1000 (4.1)."""
    maxout_size: int = Field(default=128, ge=1)
    """Maxout units of the output layer, each the larger of two. Paper: 500 (4.1)."""
    rank: int | None = Field(default=None, ge=1)
    """Rank of the output matrix G = G_l G_r. Paper: 100 (4.1). `null`: one matrix G of full rank."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout on embeddings and maxout units. Paper: 0."""
    reset: Literal["paper", "fused"] = "paper"
    """The reset gate: `paper`, h~ = tanh(W x + U (r h)) (eq. 8); `fused`, tanh(W x + r (U h + b)), as in `torch.nn.GRU`."""
    training: GRUTrainingConfig = GRUTrainingConfig()
    """How it is trained. Default: for small data; the preset `paper` has the paper's."""

    presets: ClassVar[Presets] = {
        "paper": {  # 4.1: its sizes, Adadelta with rho .95 and epsilon 1e-6, batches of 64 phrases (of about 8 tokens)
            "embedding_dim": 100,
            "hidden_size": 1000,
            "maxout_size": 500,
            "rank": 100,
            "dropout": 0.0,
            "reset": "paper",
            "training": {
                "optimizer": "adadelta",
                "learning_rate": 1.0,
                "max_grad_norm": None,
                "batch_tokens": 64 * 8,
                "normalization": "batch",
            },
        }
    }


Config = GRUConfig
