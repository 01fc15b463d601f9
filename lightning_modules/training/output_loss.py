"""Cross entropy of a large output layer, with its projection: the largest single part of the work of a small translator."""

from typing import Any

import torch
from torch import Tensor

# Logits in memory at one time: on a CPU as many as its last cache holds, elsewhere enough for large products.
MAX_LOGITS = {"cpu": 4_000_000, "other": 16_000_000}
MIN_ROWS = 256  # positions at one time, whatever their logits: with fewer, reading the weights is most of the product


def projected_cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Summed cross entropy, in nats, of softmax(features @ weight.T + bias) against `targets`.

    Label smoothing epsilon is that of Szegedy et al. (2016), as in Vaswani et al. (2017, 5.4). The target distribution is
    (1 - epsilon) on the target plus epsilon / V on each of the V types.

    Scores are computed chunk by chunk, and their gradient in the same pass, while they are in the cache. Nothing of size
    positions x V is held for the backward pass, and nothing is computed twice.

    Args:
        features: (N, d) at the positions that count; leave padding out.
        weight: (V, d); bias: (V,) or None; targets: (N,) in [0, V).
    """
    loss: Tensor = _ProjectedCrossEntropy.apply(features, weight, bias, targets, smoothing)
    return loss


class _ProjectedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float
    ) -> Tensor:
        device = features.device.type
        # Under autocast the products are in its type, as any linear layer's; sums are in float32 or wider.
        compute = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
        wide = torch.promote_types(features.dtype, torch.float32)
        needs, types = any(ctx.needs_input_grad), weight.shape[0]
        learns = ctx.needs_input_grad[1]  # a frozen output layer gets no gradient
        loss = features.new_zeros((), dtype=wide)
        d_features = torch.empty_like(features if needs else features[:0])
        d_weight = torch.zeros_like(weight) if learns else None
        d_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        chunk = max(MIN_ROWS, MAX_LOGITS["cpu" if device == "cpu" else "other"] // types)
        with torch.autocast(device, enabled=False):
            w, b = weight.to(compute), None if bias is None else bias.to(compute)
            # The same memory for all chunks: fresh memory of this size costs a CPU as much as a third of the product.
            memory = features.new_empty(min(chunk, len(features)), types, dtype=compute)
            widened = memory if wide == compute else torch.empty_like(memory, dtype=wide)
            for start in range(0, len(features), chunk):
                rows = slice(start, start + chunk)
                h, y = features[rows].to(compute), targets[rows, None]
                place = memory[: len(h)]
                product = torch.mm(h, w.t(), out=place) if b is None else torch.addmm(b, h, w.t(), out=place)
                scores = product if wide == compute else widened[: len(h)].copy_(product)
                loss -= (1 - smoothing) * scores.gather(1, y).sum()
                if smoothing:
                    loss -= smoothing / types * scores.sum()
                largest = scores.amax(1, keepdim=True)
                p = torch.softmax(scores, 1, out=scores)
                # log Z = largest score - log(largest p), which is at least 1 / V: no digits are lost.
                loss += (largest - p.amax(1, keepdim=True).log()).sum()
                if not needs:
                    continue
                gradient = p  # d loss / d scores = softmax - (1 - epsilon) onehot - epsilon / V
                if smoothing:
                    gradient -= smoothing / types
                gradient.scatter_add_(1, y, gradient.new_full(y.shape, smoothing - 1))
                if d_bias is not None:
                    d_bias += gradient.sum(0)
                gradient = gradient if wide == compute else place.copy_(gradient)
                d_features[rows] = gradient @ w
                if d_weight is not None and d_weight.dtype == compute:  # added in place: no second matrix of that size
                    d_weight.addmm_(gradient.t(), h)
                elif d_weight is not None:
                    d_weight += gradient.t() @ h
        ctx.save_for_backward(d_features, d_weight, d_bias)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (d_loss,) = grads
        return *(None if d is None else d * d_loss for d in ctx.saved_tensors), None, None
