"""The k largest of many values: what a beam search looks for among beam x V continuations at every step."""

import torch
from torch import Tensor

GROUP = 128


def top_k(values: Tensor, added: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each N of `values` (N, H, V) + `added` (N, H, 1), largest first, and their places among H x V.

    It is `(values + added).flatten(1).topk(k)`, which a CPU takes long for: only the k groups of neighbours with the largest maxima
    can hold them. Equal values may come in another order.
    """
    n, h, v = values.shape
    groups, rest = divmod(v, GROUP)
    if values.device.type != "cpu" or h * groups < 4 * k:
        found, places = (values + added).flatten(1).topk(k, 1)
        return found, places
    maxima = values[:, :, : v - rest].unflatten(2, (groups, GROUP)).amax(3) + added
    best = maxima.flatten(1).topk(k, 1).indices
    starts = best // groups * v + best % groups * GROUP
    inside = (starts[:, :, None] + torch.arange(GROUP)).flatten(1)
    beyond = (torch.arange(h)[:, None] * v + torch.arange(v - rest, v)).flatten()  # the last whole group of each row
    inside = torch.cat([inside, beyond.expand(n, -1)], 1)
    candidates = values.flatten(1).gather(1, inside) + added[:, :, 0].gather(1, inside // v)
    found, order = candidates.topk(k, 1)
    return found, inside.gather(1, order)
