"""The k largest values, found group by group."""

import pytest
import torch

from lightning_modules.decoding.top_k import GROUP, top_k


@pytest.mark.parametrize("hypotheses", [1, 3])
@pytest.mark.parametrize("types", [30, 50 * GROUP, 60 * GROUP + 1, 61 * GROUP - 1])
def test_it_is_torchs(types: int, hypotheses: int) -> None:
    torch.manual_seed(0)
    x, added = torch.randn(7, hypotheses, types), torch.randn(7, hypotheses, 1)
    x[0, -1, -10:] += 9  # all in the last group, or beyond it
    x[1, :, ::GROUP] = torch.inf
    added[2, 0] = -torch.inf if hypotheses > 1 else 0
    for mine, expected in zip(top_k(x, added, 10), (x + added).flatten(1).topk(10, 1), strict=True):
        if mine.is_floating_point():
            assert torch.equal(mine, expected)
        else:
            assert torch.equal(mine[2:], expected[2:])  # without ties, the places too


def test_equal_values_and_minus_infinity() -> None:
    x = torch.full((2, 2, 50 * GROUP), -torch.inf)
    x[0, 0, 5] = x[0, 1, 27 * GROUP] = 1.0
    largest, places = top_k(x, torch.zeros(2, 2, 1), 4)
    assert largest.tolist() == [[1.0, 1.0, -torch.inf, -torch.inf], [-torch.inf] * 4]
    assert set(places[0, :2].tolist()) == {5, 77 * GROUP}
    assert all(len(set(row)) == 4 for row in places.tolist())
