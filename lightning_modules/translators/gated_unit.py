"""The gated hidden unit of Cho et al. (2014), 2.3, used there and by Bahdanau et al. (2014).

    r = sigma(W_r x + U_r h)            (eq. 5)
    z = sigma(W_z x + U_z h)            (eq. 6)
    h' = z h + (1 - z) h~               (eq. 7)
    h~ = tanh(W x + U (r h))            (eq. 8)

The reset gate comes before the recurrent product. `torch.nn.GRU` has it after, r (U h + b): another unit, from which this one cannot
be computed. Bahdanau et al. write 1 - z for z: the same unit, with the signs of W_z, U_z and their bias turned.

A sequence has one product of inputs and gates before the loop, and one for the gradient of U after it. In the loop a step has two
products, with the state. tanh(x) is computed as 2 sigma(2 x) - 1, which torch does several times faster on a CPU.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

from lightning_modules.translators.recurrence import fast_tanh


class GatedStep(NamedTuple):
    """The result of a step of B sequences, with what its gradient needs."""

    h: Tensor  # (B, n), the state after the step
    zr: Tensor  # (B, 2n), both gates
    reset: Tensor  # (B, n), r h
    candidate: Tensor  # (B, n), h~


class GatedUnit(nn.Module):
    """One layer of n gated units. The order in all weights is z, r, h~."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.W = nn.Linear(inputs, 3 * hidden)  # W_z, W_r, W with their biases
        self.U = nn.Parameter(torch.empty(3 * hidden, hidden))  # U_z, U_r, U
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initial weights of both papers: normal(0, .01), recurrent matrices orthogonal, biases 0."""
        nn.init.normal_(self.W.weight, std=0.01)
        nn.init.zeros_(self.W.bias)
        with torch.no_grad():
            for recurrent in self.U.chunk(3):
                nn.init.orthogonal_(recurrent)

    def forward(self, packed: PackedSequence) -> PackedSequence:
        """All states of packed sequences (N, inputs) from the state 0: (N, n), packed alike."""
        gates, sizes = self.W(packed.data), packed.batch_sizes.tolist()
        return packed._replace(data=self.run(gates, gates.new_zeros(sizes[0], self.U.shape[1]), sizes))

    def run(self, gates: Tensor, h: Tensor, sizes: list[int]) -> Tensor:
        """States (N, n) after each step, from packed sequences.

        Args:
            gates: (N, 3n) W x of all gates, step by step: `sizes[t]` rows at step t, never more than at the step before, the same
                sequence in the same place.
            h: (sizes[0], n) the state before the first step.
        """
        with torch.autocast(
            gates.device.type, enabled=False
        ):  # a state is a sum over all steps: never in half precision
            states: Tensor = _Run.apply(gates.to(self.U.dtype), h.to(self.U.dtype), self.U, sizes)
        return states

    def step(self, gates: Tensor, h: Tensor) -> Tensor:
        """The state (R, n) after one step, from W x of all gates (R, 3n) and the state h (R, n)."""
        return forward_step(gates, h, self.U).h


def forward_step(gates: Tensor, h: Tensor, U: Tensor) -> GatedStep:
    """One step (eqs. 5 to 8) from W x of all gates (B, 3n) and the state h (B, n)."""
    n = h.shape[1]
    zr = torch.addmm(gates[:, : 2 * n], h, U[: 2 * n].t()).to(h.dtype).sigmoid()  # products may be in half precision
    z, r = zr.chunk(2, 1)
    reset = r * h
    candidate = fast_tanh(torch.addmm(gates[:, 2 * n :], reset, U[2 * n :].t()).to(h.dtype))
    return GatedStep(torch.lerp(candidate, h, z), zr, reset, candidate)  # h' = z h + (1 - z) h~


def backward_step(
    d_h: Tensor, h: Tensor, zr: Tensor, reset: Tensor, candidate: Tensor, U: Tensor, d_gates: Tensor
) -> Tensor:
    """Writes the gradient of a step's `gates` to `d_gates` (B, 3n); returns that of `h`, the state before the step."""
    n = h.shape[1]
    z, r = zr.chunk(2, 1)
    d_candidate = torch.mul(d_h * (1 - z), 1 - candidate * candidate, out=d_gates[:, 2 * n :])
    d_reset = d_candidate @ U[2 * n :]
    torch.mul(d_h * (h - candidate), z * (1 - z), out=d_gates[:, :n])
    torch.mul(d_reset * reset, 1 - r, out=d_gates[:, n : 2 * n])
    return torch.addmm((d_h * z).addcmul_(d_reset, r), d_gates[:, : 2 * n], U[: 2 * n])


def recurrent_gradient(d_gates: Tensor, h: Tensor, reset: Tensor) -> Tensor:
    """The gradient of U (3n, n) from those of the gates (N, 3n) of all steps, the states before them and r h (N, n)."""
    n = h.shape[1]
    return torch.cat([d_gates[:, : 2 * n].t() @ h, d_gates[:, 2 * n :].t() @ reset])


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, h: Tensor, U: Tensor, sizes: list[int]) -> Tensor:
        before: list[Tensor] = []
        steps: list[GatedStep] = []
        for rows in gates.split(sizes):
            before.append(h[: len(rows)])
            steps.append(forward_step(rows, before[-1], U))
            h = steps[-1].h
        states, *saved = map(torch.cat, zip(*steps, strict=True))
        ctx.sizes = sizes
        ctx.save_for_backward(U, torch.cat(before), *saved)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        U, h, zr, reset, candidate = ctx.saved_tensors
        d_gates = h.new_empty(len(h), len(U))
        steps = zip(*(x.split(ctx.sizes) for x in (d_states, h, zr, reset, candidate, d_gates)), strict=True)
        d_h = h.new_zeros(0, h.shape[1])
        for d_state, h_t, zr_t, reset_t, candidate_t, d_gate in reversed(list(steps)):
            later, d_h = d_h, d_state.clone()
            d_h[: len(later)] += later  # a sequence that ends at this step gets nothing from later ones
            d_h = backward_step(d_h, h_t, zr_t, reset_t, candidate_t, U, d_gate)
        return d_gates, d_h, recurrent_gradient(d_gates, h, reset), None
