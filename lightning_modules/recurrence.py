"""`torch.nn.LSTM` and `torch.nn.GRU` in the precision of their weights, whatever autocast says.

A state is a sum over all steps. Autocast would take it to half precision, and on a GPU to float16 also where bfloat16 is asked for,
whose small gradients vanish without a scaled loss.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


def run(unit: nn.RNNBase, inputs: Tensor | PackedSequence, *state: Tensor) -> tuple[Any, Any]:
    """What `unit(inputs, state)` gives: all outputs, and the last state. `state` is (h, c) of an LSTM, (h,) of a GRU, or left out for 0."""
    dtype = next(unit.parameters()).dtype
    before = tuple(x.to(dtype) for x in state)
    with torch.autocast(next(unit.parameters()).device.type, enabled=False):
        if not before:
            found: tuple[Any, Any] = unit(inputs.to(dtype))
        else:
            found = unit(inputs.to(dtype), before if len(before) > 1 else before[0])
    return found
