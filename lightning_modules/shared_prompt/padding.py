"""Tokens that lie one after the other, moved to padded rows and back."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class PaddedCells:
    """Which cell of padded rows each token fills."""

    cell_of_token: Tensor  # (n,)
    token_of_cell: Tensor  # (rows * width,); a cell of padding names any token, which attention does not see

    @classmethod
    def of(cls, cell_of_token: np.ndarray, cells: int) -> "PaddedCells":
        """The cells of tokens, among `cells` of them."""
        token_of_cell = np.zeros(cells, np.int64)
        token_of_cell[cell_of_token] = np.arange(len(cell_of_token))
        return cls(torch.from_numpy(cell_of_token), torch.from_numpy(token_of_cell))

    def to(self, device: torch.device) -> "PaddedCells":
        return PaddedCells(self.cell_of_token.to(device), self.token_of_cell.to(device))


def pad(tokens: Tensor, cells: PaddedCells, shape: tuple[int, int]) -> Tensor:
    """(rows, heads, width, d) of (n, heads, d); `shape` is (rows, width)."""
    if len(tokens) < len(cells.token_of_cell):  # otherwise all rows have one length, and tokens are in their cells
        tokens = _Pad.apply(tokens, cells)
    return tokens.unflatten(0, shape).transpose(1, 2)


def unpad(padded: Tensor, cells: PaddedCells) -> Tensor:
    """(n, heads, d): what `pad` put into the cells of (rows, heads, width, d)."""
    values = padded.transpose(1, 2).flatten(0, 1)
    return values if len(cells.cell_of_token) == len(values) else _Unpad.apply(values, cells)


class _Pad(torch.autograd.Function):
    """Nothing sees the padding, so no gradient comes back from there: the gradient needs no sum over cells."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, cells: PaddedCells) -> Tensor:
        ctx.cells = cells
        return tokens.index_select(0, cells.token_of_cell)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].index_select(0, ctx.cells.cell_of_token), None


class _Unpad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, cells: PaddedCells) -> Tensor:
        ctx.cells = cells
        return values.index_select(0, cells.cell_of_token)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        zeros = grad.new_zeros(len(ctx.cells.token_of_cell), *grad.shape[1:])
        return zeros.index_copy_(0, ctx.cells.cell_of_token, grad), None
