"""Schedules as the papers give them."""

import pytest
import torch
from torch import nn

from lightning_modules.training.config import TrainingConfig
from lightning_modules.training.optimization import optimization, schedule


def test_noam_equals_equation_3() -> None:
    rate = schedule(TrainingConfig(lr_scheduler_type="noam", warmup_steps=4000), 100, hidden_size=512)
    for step in (1, 100, 4000, 4001, 100_000):
        assert rate(step - 1) == pytest.approx(512**-0.5 * min(step**-0.5, step * 4000**-1.5))
    assert max(range(6000), key=rate) == 3999


def test_halving_after_luong_and_after_sutskever() -> None:
    luong = schedule(
        TrainingConfig(lr_scheduler_type="halving", num_train_epochs=10, halve_after=5, halve_every=1), 100
    )
    assert [luong(100 * e) for e in (0, 4, 4.99, 5, 6, 9)] == [1, 1, 1, 0.5, 0.25, 0.5**5]
    sutskever = schedule(
        TrainingConfig(lr_scheduler_type="halving", num_train_epochs=8, halve_after=5, halve_every=0.5), 100
    )
    assert [sutskever(s) for s in (499, 500, 549, 550, 700, 749)] == [1, 0.5, 0.5, 0.25, 0.5**5, 0.5**5]


def test_cosine_ends_at_its_share_and_linear_at_zero() -> None:
    cosine = schedule(
        TrainingConfig(lr_scheduler_type="cosine", num_train_epochs=2, warmup_steps=10, min_lr_rate=0.1), 100
    )
    assert [round(cosine(s), 6) for s in (0, 9, 10, 105, 200)] == [0.1, 1, 1, 0.55, 0.1]
    linear = schedule(TrainingConfig(lr_scheduler_type="linear", num_train_epochs=1, warmup_steps=0), 100)
    assert [linear(s) for s in (0, 50, 100)] == [1, 0.5, 0]


def test_adadelta_is_zeilers_with_rho_and_epsilon_of_cho_and_bahdanau() -> None:
    """Algorithm 1 of Zeiler (2012), written out; rho .95, epsilon 1e-6."""
    weight = nn.Parameter(torch.tensor([0.3, -0.7], dtype=torch.float64))
    config = TrainingConfig(optimizer="adadelta", learning_rate=1.0)
    optimizer = optimization([weight], config, 10)["optimizer"]
    x, squares, changes = weight.detach().clone(), torch.zeros(2).double(), torch.zeros(2).double()
    for g in torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64):
        weight.grad = g.clone()
        optimizer.step()
        squares = 0.95 * squares + 0.05 * g**2
        change = -((changes + 1e-6) / (squares + 1e-6)).sqrt() * g
        changes = 0.95 * changes + 0.05 * change**2
        x += change
        torch.testing.assert_close(weight.detach(), x, rtol=1e-12, atol=0)
