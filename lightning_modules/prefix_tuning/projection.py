"""The table P of a prefix: trained through an MLP (Li & Liang 2021, 4.3) or as it is, from random values or given ones."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from core.config import Settings
from core.errors import InputError
from lightning_modules.training.config import OptimizationSettings


class PrefixSettings(Settings):
    """A prefix and its training."""

    length: int = Field(default=10, ge=1)  # virtual positions
    reparametrisation: bool = True  # P = MLP(P') while training; False trains P itself ("flat")
    mlp_input: int = Field(default=512, ge=1)  # width of P'
    mlp_hidden: int = Field(default=512, ge=1)
    initial_text: str | None = None  # start from the activations of these words, cut or repeated to `length` pieces
    position: Literal["prefix", "infix"] = "prefix"  # [P; x; y] or [x; P; y]
    dropout: float = Field(default=0.0, ge=0, lt=1)  # on P, while training
    training: OptimizationSettings = OptimizationSettings(
        optimizer="adamw", learning_rate=5e-5, schedule="linear", epochs=10, betas=(0.9, 0.999), tokens_per_batch=512
    )


class Reparametrised(nn.Module):
    """P (length, width). With an MLP it is W_2 tanh(W_1 P' + b_1) + b_2, row by row; the MLP goes when training is done."""

    def __init__(self, width: int, settings: PrefixSettings, initial: Tensor | None = None) -> None:
        """`initial` (length, width) is what P is at first, with or without the MLP.

        Raises:
            InputError: the MLP has too few hidden units to give `initial` exactly.
        """
        super().__init__()
        if initial is not None and settings.reparametrisation and settings.length > settings.mlp_hidden:
            raise InputError(
                f"mlp_hidden: {settings.mlp_hidden} hidden units cannot start {settings.length} positions from words: "
                f"at least as many are needed. Raise mlp_hidden, or leave initial_text out."
            )
        self.mlp: nn.Sequential | None = None
        if settings.reparametrisation:
            self.seed = nn.Parameter(torch.randn(settings.length, settings.mlp_input))  # P'
            self.mlp = nn.Sequential(
                nn.Linear(settings.mlp_input, settings.mlp_hidden), nn.Tanh(), nn.Linear(settings.mlp_hidden, width)
            )
            if initial is not None:
                self._fit(initial)
        else:
            self.P = nn.Parameter(torch.randn(settings.length, width) * 0.02 if initial is None else initial.clone())

    @torch.no_grad()
    def _fit(self, initial: Tensor) -> None:
        """Chooses W_2, the least change to it, so that the MLP gives `initial`: exactly, while it has as many hidden units as rows."""
        assert self.mlp is not None
        hidden, last = self.mlp[:2](self.seed).double(), self.mlp.get_submodule("2")
        assert isinstance(last, nn.Linear)
        wrong = initial.double() - hidden @ last.weight.double().t() - last.bias.double()
        last.weight += torch.linalg.lstsq(hidden, wrong).solution.t().to(last.weight.dtype)

    def flat(self) -> Tensor:
        """P, (length, width)."""
        return self.mlp(self.seed) if self.mlp is not None else self.P
