"""Packed LSTMs in training against torch's own."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from lightning_modules.translators import recurrence
from tests.lightning_modules.lstm_1997.test_lstm import Written


def packed(lengths: list[int], width: int = 6) -> PackedSequence:
    torch.manual_seed(1)
    steps = max(lengths)
    values = torch.randn(len(lengths), steps, width, requires_grad=True)
    return pack_padded_sequence(values, torch.tensor(lengths), batch_first=True, enforce_sorted=False)


def loss_of(states: PackedSequence, h: Tensor, c: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, states.data.numel()).view_as(states.data)
    return (weights * states.data).sum() + h.pow(2).sum() + (c * c.detach().cos()).sum()


@pytest.mark.parametrize("lengths", [[3, 1, 5, 5, 2], [4, 4], [1]])
@pytest.mark.parametrize("layers", [1, 3])
def test_it_gives_what_torchs_lstm_gives(lengths: list[int], layers: int) -> None:
    torch.manual_seed(0)
    theirs = nn.LSTM(6, 8, layers, batch_first=True, dropout=0.3 if layers > 1 else 0.0)
    mine, values, others = copy.deepcopy(theirs), packed(lengths), packed(lengths)
    torch.manual_seed(2)
    expected, (h, c) = theirs(others)
    torch.manual_seed(2)
    states, (h_mine, c_mine) = recurrence.run(mine, values)
    for one, other in ((states.data, expected.data), (h_mine, h), (c_mine, c)):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    gradients = torch.autograd.grad(loss_of(states, h_mine, c_mine), [values.data, *mine.parameters()])
    theirs_gradients = torch.autograd.grad(loss_of(expected, h, c), [others.data, *theirs.parameters()])
    for one, other in zip(gradients, theirs_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_steps_gradient_costs_the_same_however_many_steps_there_are() -> None:
    """torch's own fills a matrix of all steps at each."""

    def cost(steps: int, ours: bool) -> int:
        unit, values = nn.LSTM(6, 8, batch_first=True), packed([steps, steps - 1])
        with Written() as work:
            states, _ = recurrence.run(unit, values) if ours else unit(values)
            states.data.sum().backward()
        return work.numbers

    for ours, equal in ((True, True), (False, False)):
        first, second, third = (cost(steps, ours) for steps in (10, 20, 30))
        assert (third - second == second - first) is equal
