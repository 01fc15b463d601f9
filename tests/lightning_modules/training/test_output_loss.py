"""The fused output loss equals the textbook one."""

import pytest
import torch
import torch.nn.functional as F

from lightning_modules.training import output_loss
from lightning_modules.training.output_loss import projected_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("with_bias", [False, True])
def test_loss_and_gradients_equal_pytorchs(smoothing: float, with_bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(output_loss.MAX_LOGITS, "cpu", 3 * 11)  # several chunks, the last one short
    monkeypatch.setattr(output_loss, "MIN_ROWS", 1)
    torch.manual_seed(0)
    h, w, b = (torch.randn(*s, dtype=torch.double, requires_grad=True) for s in ((8, 5), (11, 5), (11,)))
    inputs = (h, w, b) if with_bias else (h, w)
    y = torch.randint(0, 11, (8,))
    mine = projected_cross_entropy(h, w, b if with_bias else None, y, smoothing)
    textbook = F.cross_entropy(F.linear(h, w, b if with_bias else None), y, reduction="sum", label_smoothing=smoothing)
    assert mine.item() == pytest.approx(textbook.item(), rel=1e-12)
    for got, expected in zip(
        torch.autograd.grad(mine * 3, inputs), torch.autograd.grad(textbook * 3, inputs), strict=True
    ):
        torch.testing.assert_close(got, expected)


def test_large_scores_lose_no_digits() -> None:
    h, w = torch.tensor([[300.0], [-300.0], [0.0]], requires_grad=True), torch.tensor([[1.0], [-1.0], [0.5]])
    y = torch.tensor([1, 2, 0])
    mine = projected_cross_entropy(h, w, None, y)
    textbook = F.cross_entropy(h.double() @ w.double().t(), y, reduction="sum")
    assert mine.item() == pytest.approx(textbook.item(), rel=1e-6)
    (got,), (expected,) = torch.autograd.grad(mine, h), torch.autograd.grad(textbook, h)
    torch.testing.assert_close(got, expected)


def test_label_smoothing_is_the_papers_formula() -> None:
    h, w, y, epsilon = torch.randn(4, 3), torch.randn(7, 3), torch.tensor([0, 6, 2, 2]), 0.1
    log_p = torch.log_softmax(h @ w.t(), -1)
    expected = sum(-(1 - epsilon) * log_p[i, y[i]] - epsilon / 7 * log_p[i].sum() for i in range(4))
    assert projected_cross_entropy(h, w, None, y, epsilon).item() == pytest.approx(expected.item(), rel=1e-5)


def test_it_has_no_gradient_to_keep_in_evaluation() -> None:
    with torch.inference_mode():
        assert projected_cross_entropy(
            torch.zeros(2, 3), torch.zeros(5, 3), None, torch.tensor([0, 1])
        ).item() == pytest.approx(2 * torch.tensor(5.0).log().item())


@pytest.mark.parametrize("features_type", [torch.float32, torch.bfloat16])
def test_under_autocast_it_works_in_half_precision(features_type: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(output_loss.MAX_LOGITS, "cpu", 4 * 20)  # several chunks, the last one short
    monkeypatch.setattr(output_loss, "MIN_ROWS", 1)
    torch.manual_seed(0)
    h, w = torch.randn(10, 8).to(features_type).requires_grad_(), torch.randn(20, 8, requires_grad=True)
    y = torch.arange(10)
    with torch.autocast("cpu", torch.bfloat16):
        loss = projected_cross_entropy(h, w, None, y)
    exact = F.cross_entropy(h.float() @ w.t(), y, reduction="sum")
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    gradients = zip(torch.autograd.grad(loss, (h, w)), torch.autograd.grad(exact, (h, w)), strict=True)
    for (got, expected), kind in zip(gradients, (features_type, torch.float32), strict=True):
        assert got.dtype == kind
        errors = (got.float() - expected.float()).norm(dim=1) / expected.float().norm(dim=1)
        assert errors.max() < 0.03  # in every row, whatever its chunk
