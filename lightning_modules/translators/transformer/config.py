"""Config of the Transformer (Vaswani et al. 2017)."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lightning_modules.training.config import Optimizer, Schedule
from lightning_modules.translators.config import Presets, TranslatorConfig, TranslatorTrainingConfig


class TransformerTrainingConfig(TranslatorTrainingConfig):
    """The training of the paper (section 5)."""

    optimizer: Optimizer = "adam"
    betas: tuple[float, float] = (0.9, 0.98)
    """Only with `adam` and `adamw`: decay rates of the two moments. Paper: 0.9 and 0.98 (5.3)."""
    lr_scheduler_type: Schedule = "noam"
    learning_rate: float = Field(default=1.0, gt=0)
    warmup_steps: int = Field(default=4000, ge=0)
    """Updates over which the learning rate rises linearly. Paper: 4000 (5.3)."""
    num_train_epochs: int = Field(default=10, ge=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of a target's probability that is spread over the vocabulary, epsilon_ls. Paper: 0.1 (5.4)."""
    max_grad_norm: float | None = Field(default=None, gt=0)


class TransformerConfig(TranslatorConfig):
    """Sizes, each with the paper's symbol (section 3) and the value of its base model."""

    num_layers: int = Field(default=2, ge=1)
    """Layers of encoder and of decoder, N. Paper: 6 (section 3.1)."""
    hidden_size: int = Field(default=128, ge=2, multiple_of=2)
    """Width of states and embeddings, d_model: a multiple of `num_heads`. Paper: 512 (3.1)."""
    ff_size: int = Field(default=512, ge=1)
    """Inner width of the feed-forward layers, d_ff. Paper: 2048 (3.3)."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads, h. Paper: 8 (3.2.2)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout on embeddings and on every sub-layer's output, P_drop. Paper: 0.1 (5.4)."""
    layer_norm: Literal["post", "pre"] = "post"
    """`post`: after the residual sum, as in the paper (3.1). `pre`: before each sub-layer (Xiong et al. 2020)."""
    training: TransformerTrainingConfig = TransformerTrainingConfig()
    """How it is trained. Default: the paper's (section 5)."""

    presets: ClassVar[Presets] = {  # table 3, 5.1 to 5.3, 6.1; about 25,000 target tokens an update
        "base": {
            "num_layers": 6,
            "hidden_size": 512,
            "ff_size": 2048,
            "num_heads": 8,
            "training": {
                "batch_tokens": 25_000,
                "average_last": 5,
                "num_train_epochs": 19,
            },  # of WMT 2014: 100,000 updates
        },
        "big": {
            "num_layers": 6,
            "hidden_size": 1024,
            "ff_size": 4096,
            "num_heads": 16,
            "dropout": 0.3,  # .1 for English to French
            "training": {"batch_tokens": 25_000, "average_last": 20, "num_train_epochs": 57},  # 300,000
        },
    }

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "TransformerConfig":
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size ({self.hidden_size}) must be a multiple of num_heads ({self.num_heads})")
        return self


Config = TransformerConfig
