"""The k largest of many values: what a beam search looks for among beam x V continuations at every step."""

import torch
from torch import Tensor

GROUP = 128


def top_k(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of `values` (N, M), largest first, and their places: `values.topk(k)`, which a CPU takes long for.

    Only the k groups of neighbours with the largest maxima can hold them. Equal values may come in another order.
    """
    n, m = values.shape
    whole = m - m % GROUP
    if values.device.type != "cpu" or whole < 4 * k * GROUP:
        found, places = values.topk(k, 1)
        return found, places
    best = values[:, :whole].unflatten(1, (-1, GROUP)).amax(2).topk(k, 1).indices
    inside = (best[:, :, None] * GROUP + torch.arange(GROUP)).flatten(1)
    inside = torch.cat([inside, torch.arange(whole, m).expand(n, -1)], 1)  # and all beyond the last whole group
    found, order = values.gather(1, inside).topk(k, 1)
    return found, inside.gather(1, order)
