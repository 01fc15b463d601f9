"""The table P of a prefix, trained through an MLP (Li & Liang 2021, 4.3) or directly; it starts from random values or real words."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from core.config import Config
from core.errors import InputError
from lightning_modules.training.config import TokenTrainingConfig


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
    training: TokenTrainingConfig = TokenTrainingConfig(
        optimizer="adamw",
        learning_rate=5e-5,
        lr_scheduler_type="linear",
        num_train_epochs=10,
        betas=(0.9, 0.999),
        batch_tokens=512,
    )
    """How it is trained. Default: Li & Liang (2021, 5.3)."""


class PrefixEncoder(nn.Module):
    """P (L, width) of L virtual tokens. With an MLP it is W_2 tanh(W_1 P' + b_1) + b_2, row by row; only P is kept after training."""

    def __init__(self, width: int, config: PrefixConfig, initial: Tensor | None = None) -> None:
        """`initial` (L, width) is what P is at first, with or without the MLP.

        Raises:
            InputError: the MLP has too few hidden units to give `initial` exactly.
        """
        super().__init__()
        length = config.num_virtual_tokens
        if initial is not None and config.prefix_projection and length > config.encoder_hidden_size:
            raise InputError(
                f"encoder_hidden_size: {config.encoder_hidden_size} hidden units cannot start {length} virtual tokens from words: "
                f"at least as many are needed. Raise encoder_hidden_size, or leave prompt_tuning_init_text out."
            )
        self.mlp: nn.Sequential | None = None
        if config.prefix_projection:
            self.seed = nn.Parameter(torch.randn(length, config.projection_input_size))  # P'
            self.mlp = nn.Sequential(
                nn.Linear(config.projection_input_size, config.encoder_hidden_size),
                nn.Tanh(),
                nn.Linear(config.encoder_hidden_size, width),
            )
            if initial is not None:
                self._fit(initial)
        else:
            self.P = nn.Parameter(torch.randn(length, width) * 0.02 if initial is None else initial.clone())

    @torch.no_grad()
    def _fit(self, initial: Tensor) -> None:
        """Makes the least change to W_2 after which the MLP gives `initial`: exactly, while it has as many hidden units as rows."""
        assert self.mlp is not None
        hidden, last = self.mlp[:2](self.seed).double(), self.mlp.get_submodule("2")
        assert isinstance(last, nn.Linear)
        residual = initial.double() - hidden @ last.weight.double().t() - last.bias.double()
        last.weight += torch.linalg.lstsq(hidden, residual).solution.t().to(last.weight.dtype)

    def prompt_embeddings(self) -> Tensor:
        """P, (L, width)."""
        return self.mlp(self.seed) if self.mlp is not None else self.P
