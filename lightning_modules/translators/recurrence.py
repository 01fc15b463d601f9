"""`torch.nn.LSTM` and `torch.nn.GRU` in the precision of their weights, whatever autocast says.

A state is a sum over all steps. Autocast would compute it in half precision; on a GPU in float16 even where bfloat16 is asked for, and
its small gradients vanish without a scaled loss. On a CPU the gradient of packed LSTMs is computed with less work than torch's.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear
from torch.nn.utils.rnn import PackedSequence


def run(unit: nn.RNNBase, inputs: Tensor | PackedSequence, *state: Tensor) -> tuple[Any, Any]:
    """All outputs and the last state of `unit(inputs, state)`. `state` is (h, c) of an LSTM, (h,) of a GRU, or left out for 0."""
    dtype = next(unit.parameters()).dtype
    before = tuple(x.to(dtype) for x in state)
    with torch.autocast(next(unit.parameters()).device.type, enabled=False):
        if before:
            result: tuple[Any, Any] = unit(inputs.to(dtype), before if len(before) > 1 else before[0])
        elif isinstance(unit, nn.LSTM) and isinstance(inputs, PackedSequence) and _is_slow(unit, inputs):
            result = _packed_lstm(unit, inputs.to(dtype))
        else:
            result = unit(inputs.to(dtype))
    return result


def _is_slow(unit: nn.LSTM, inputs: PackedSequence) -> bool:
    """Whether torch would compute the gradient step by step (see `_packed_lstm`). For sequences of one length it has a kernel."""
    unequal = inputs.batch_sizes[0] != inputs.batch_sizes[-1]
    return (
        torch.is_grad_enabled() and inputs.data.is_cpu and bool(unequal) and not (unit.bidirectional or unit.proj_size)
    )


def _packed_lstm(unit: nn.LSTM, inputs: PackedSequence) -> tuple[PackedSequence, tuple[Tensor, Tensor]]:
    """`unit(inputs)`, operation by operation as torch computes it on a CPU, but for the gradient of the input gates.

    torch takes a step's gates as a slice of those of all steps. The gradient of a slice is a matrix of zeros as large as all steps,
    filled and added at every step: a tenth of Luong's training. The gradient of `split` is one concatenation.
    """
    sizes, data = inputs.batch_sizes.tolist(), inputs.data
    last: list[tuple[Tensor, Tensor]] = []
    for layer, (w_ih, w_hh, b_ih, b_hh) in enumerate(unit.all_weights):
        if layer:
            data = dropout(data, unit.dropout, unit.training)
        h = c = data.new_zeros(sizes[0], unit.hidden_size)
        states: list[Tensor] = []
        ended: list[tuple[Tensor, Tensor]] = []  # of the shortest sequences first
        for gates in linear(data, w_ih, b_ih).split(sizes):
            if len(gates) < len(h):
                parts = [len(gates), len(h) - len(gates)]
                (h, h_ended), (c, c_ended) = h.split(parts), c.split(parts)
                ended.append((h_ended, c_ended))
            i, f, g, o = (linear(h, w_hh, b_hh) + gates).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        data = torch.cat(states)
        h_last, c_last = (torch.cat(x) for x in zip((h, c), *reversed(ended), strict=True))
        last.append((h_last, c_last))
    h, c = (torch.stack(x) for x in zip(*last, strict=True))
    if (order := inputs.unsorted_indices) is not None:
        h, c = h.index_select(1, order), c.index_select(1, order)
    return inputs._replace(data=data), (h, c)


def fast_tanh(x: Tensor) -> Tensor:
    """tanh(x) = 2 sigma(2 x) - 1, several times faster than `torch.tanh` on a CPU."""
    return torch.sigmoid(2 * x) * 2 - 1
