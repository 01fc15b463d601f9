"""The k largest values, found group by group."""

import pytest
import torch

from lightning_modules.top_k import GROUP, top_k


@pytest.mark.parametrize("m", [30, 50 * GROUP, 60 * GROUP + 1, 61 * GROUP - 1])
def test_it_is_torchs(m: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(7, m)
    x[0, -10:] += 9  # all in the last group, or beyond it
    x[1, ::GROUP] = torch.inf
    for mine, expected in zip(top_k(x, 10), x.topk(10, 1), strict=True):
        if mine.is_floating_point():
            assert torch.equal(mine, expected)
        else:
            assert torch.equal(mine[2:], expected[2:])  # without ties, the places too


def test_equal_values_and_minus_infinity() -> None:
    x = torch.full((2, 100 * GROUP), -torch.inf)
    x[0, [5, 77 * GROUP]] = 1.0
    found, places = top_k(x, 4)
    assert found.tolist() == [[1.0, 1.0, -torch.inf, -torch.inf], [-torch.inf] * 4]
    assert set(places[0, :2].tolist()) == {5, 77 * GROUP}
    assert all(len(set(row)) == 4 for row in places.tolist())
