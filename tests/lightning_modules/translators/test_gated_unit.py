"""Cho's unit against its equations, and its hand-written gradient against numerical and automatic ones."""

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lightning_modules.translators.gated_unit import GatedUnit


def naive(unit: GatedUnit, x: Tensor, h: Tensor) -> Tensor:
    """h after the inputs x (T, i) of one sequence: eqs. 5 to 8, one step and one gate at a time."""
    (W_z, W_r, W), (b_z, b_r, b), (U_z, U_r, U) = (p.chunk(3) for p in (unit.W.weight, unit.W.bias, unit.U))
    states = []
    for x_t in x:
        r = torch.sigmoid(W_r @ x_t + b_r + U_r @ h)
        z = torch.sigmoid(W_z @ x_t + b_z + U_z @ h)
        candidate = torch.tanh(W @ x_t + b + U @ (r * h))
        h = z * h + (1 - z) * candidate
        states.append(h)
    return torch.stack(states)


@pytest.fixture
def unit() -> GatedUnit:
    torch.manual_seed(2)
    unit = GatedUnit(3, 4).double()
    for parameter in unit.parameters():
        torch.nn.init.normal_(parameter)
    return unit


LENGTHS = [2, 5, 1, 5]


def test_packed_sequences_are_run_as_one_by_one(unit: GatedUnit) -> None:
    x = torch.randn(4, 5, 3, dtype=torch.double)
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(unit(packed), batch_first=True)
    for row, sequence, length in zip(states, x, LENGTHS, strict=True):
        expected = naive(unit, sequence[:length], torch.zeros(4, dtype=torch.double))
        torch.testing.assert_close(row[:length], expected)
        assert (row[length:] == 0).all()


def test_gradients_are_those_of_the_equations(unit: GatedUnit) -> None:
    x, start = torch.randn(2, 5, 3, dtype=torch.double), torch.randn(2, 4, dtype=torch.double)
    weights = torch.randn(5, 2, 4, dtype=torch.double)
    start.requires_grad_()
    of = [start, *unit.parameters()]
    states = unit.run(unit.W(x.transpose(0, 1)).flatten(0, 1), start, [2] * 5).view(5, 2, 4)
    gradients = torch.autograd.grad((states * weights).sum(), of)
    loops = torch.stack([naive(unit, x[i], start[i]) for i in range(2)], 1)
    for mine, automatic in zip(gradients, torch.autograd.grad((loops * weights).sum(), of), strict=True):
        torch.testing.assert_close(mine, automatic)


def test_gradients_of_sequences_of_unlike_lengths(unit: GatedUnit) -> None:
    sizes = [3, 3, 2, 1]
    gates = torch.randn(sum(sizes), 12, dtype=torch.double, requires_grad=True)
    start = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda gates, h, _: unit.run(gates, h, sizes), (gates, start, unit.U))


def test_one_step_is_a_sequence_of_one(unit: GatedUnit) -> None:
    gates, h = torch.randn(6, 12, dtype=torch.double), torch.randn(6, 4, dtype=torch.double)
    torch.testing.assert_close(unit.step(gates, h), unit.run(gates, h, [6]))


def test_it_is_another_unit_than_pytorchs(unit: GatedUnit) -> None:
    """The same weights in `torch.nn.GRUCell`, whose gates stand in the order r, z, candidate."""
    cell = torch.nn.GRUCell(3, 4).double()
    order = torch.cat([torch.arange(4, 8), torch.arange(0, 4), torch.arange(8, 12)])
    cell.weight_ih.data, cell.weight_hh.data, cell.bias_ih.data = (
        unit.W.weight[order],
        unit.U[order],
        unit.W.bias[order],
    )
    cell.bias_hh.data.zero_()
    x, h = torch.randn(2, 3, dtype=torch.double), torch.randn(2, 4, dtype=torch.double)
    torch.testing.assert_close(unit.step(unit.W(x), torch.zeros_like(h)), cell(x, torch.zeros_like(h)))
    assert not torch.allclose(unit.step(unit.W(x), h), cell(x, h), atol=0.01)


def test_weights_start_as_in_the_papers() -> None:
    unit = GatedUnit(40, 50)
    for recurrent in unit.U.chunk(3):
        torch.testing.assert_close(recurrent @ recurrent.t(), torch.eye(50), rtol=0, atol=1e-5)
    assert unit.W.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert (unit.W.bias == 0).all()
