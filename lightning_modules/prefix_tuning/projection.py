"""The table P of a prefix, trained through an MLP (Li & Liang 2021, 4.3) or directly; it starts from random values or real words."""

import torch
from torch import Tensor, nn

from core.errors import InputError
from lightning_modules.prefix_tuning.config import PrefixConfig


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
                f"encoder_hidden_size: {config.encoder_hidden_size} hidden units cannot give {length} virtual tokens their first values: "
                "at least as many are needed. Raise encoder_hidden_size, or leave prompt_tuning_init_text or init_from out."
            )
        self.mlp: nn.Sequential | None = None
        if config.prefix_projection:
            # P'. Its name is in saved checkpoints.
            self.seed = nn.Parameter(torch.randn(length, config.projection_input_size))
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
