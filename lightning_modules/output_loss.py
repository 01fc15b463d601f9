"""Cross entropy of a large output layer, with its projection: the largest single piece of work in a small translator."""

from typing import Any

import torch
from torch import Tensor

CHUNK = 1024  # positions whose scores exist at one time


def projected_cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Summed cross entropy of softmax(features @ weight.T + bias) against `targets`.

    With label smoothing epsilon the target distribution is (1 - epsilon) on the target plus epsilon / V on every one of the
    V types (Szegedy et al. 2016, as in Vaswani et al. 2017, 5.4).

    Scores are made chunk by chunk and their gradient in the same pass, while they are in the cache: nothing of size
    positions x V is kept for the backward pass, and nothing is computed twice.

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
        needs = any(ctx.needs_input_grad)
        types = weight.shape[0]
        wide = torch.promote_types(features.dtype, torch.float32)  # sums are kept in at least single precision
        loss = features.new_zeros((), dtype=wide)
        d_features = torch.empty_like(features if needs else features[:0])
        d_weight = torch.zeros_like(weight if needs else weight[:0])
        d_bias = torch.zeros_like(bias) if needs and bias is not None else None
        for start in range(0, len(features), CHUNK):
            rows = slice(start, start + CHUNK)
            h, y = features[rows], targets[rows, None]
            scores = h @ weight.t() if bias is None else torch.addmm(bias, h, weight.t())
            normalizer = torch.logsumexp(scores.to(wide), dim=1, keepdim=True)
            loss += normalizer.sum() - (1 - smoothing) * scores.gather(1, y).sum()
            if smoothing:
                loss -= smoothing / types * scores.sum()
            if not needs:
                continue
            # d loss / d scores = softmax - (1 - epsilon) onehot - epsilon / V
            gradient = scores.sub_(normalizer.to(scores.dtype)).exp_()
            if smoothing:
                gradient -= smoothing / types
            gradient.scatter_add_(1, y, gradient.new_full(y.shape, smoothing - 1))
            torch.mm(gradient, weight, out=d_features[rows])
            d_weight.addmm_(gradient.t(), h)
            if d_bias is not None:
                d_bias += gradient.sum(0)
        ctx.save_for_backward(d_features, d_weight, d_bias)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_features, d_weight, d_bias = ctx.saved_tensors
        (d_loss,) = grads
        return d_features * d_loss, d_weight * d_loss, None if d_bias is None else d_bias * d_loss, None, None
