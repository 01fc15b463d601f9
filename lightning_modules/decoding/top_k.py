"""The k largest of many values: what a beam search looks for among beam x V continuations at every step."""

import torch
from torch import Tensor

GROUP = 64


def top_k(values: Tensor, added: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each N of `values` (N, H, V) + `added` (N, H, 1), largest first, and their places among H x V, both (N, k).

    The result is that of `(values + added).flatten(1).topk(k)`, which is slow on a CPU. There values are grouped, and only the k
    groups with the largest maxima are searched, as no other can hold one of the k. Equal values may come in another order.
    """
    n, h, v = values.shape
    groups, rest = divmod(v, GROUP)
    if values.device.type != "cpu" or h * groups < 4 * k:
        largest, places = (values + added).flatten(1).topk(k, 1)
        return largest, places
    maxima = values[:, :, : v - rest].unflatten(2, (groups, GROUP)).amax(3) + added
    best = maxima.flatten(1).topk(k, 1, sorted=False).indices
    row = best // groups
    places = (best * GROUP + row * rest)[:, :, None] + torch.arange(GROUP)  # (N, k, GROUP)
    inside = values.flatten(1).gather(1, places.flatten(1)).view_as(places) + added[:, :, 0].gather(1, row)[:, :, None]
    beyond = values[:, :, v - rest :] + added  # what follows the last whole group of each row
    places_beyond = (torch.arange(h)[:, None] * v + torch.arange(v - rest, v)).flatten()
    largest, order = torch.cat([inside.flatten(1), beyond.flatten(1)], 1).topk(k, 1)
    return largest, torch.cat([places.flatten(1), places_beyond.expand(n, -1)], 1).gather(1, order)
