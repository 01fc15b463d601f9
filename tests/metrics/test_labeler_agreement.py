"""Agreement between labelers, against numbers worked out by hand and by others."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from data.comparisons.collection import read_collection
from data.comparisons.importing.appending import append_rankings
from data.comparisons.ranking import Ranking
from metrics.labeler_agreement import BETTER, TIE, WORSE, agreement, krippendorff_alpha

Collect = Callable[..., datasets.Dataset]


@pytest.fixture
def collect(tmp_path: Path) -> Collect:
    """Rankings given as (prompt, labeler, responses, ranks)."""

    def stored(*rankings: tuple[str, str, str, list[int | None]]) -> datasets.Dataset:
        records = (
            Ranking(prompt=p, labeler=who, responses=list(texts), ranks=ranks, origin="test", id=str(i))
            for i, (p, who, texts, ranks) in enumerate(rankings)
        )
        append_rankings(records, tmp_path / "c")
        return read_collection(tmp_path / "c")

    return stored


def test_krippendorffs_own_example() -> None:
    """The reliability data of Krippendorff 2011, section C: four observers, values missing; alpha = .743."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
    counts = np.array([[column.count(value) for value in range(1, 6)] for column in zip(*observers, strict=True)])
    assert krippendorff_alpha(counts) == pytest.approx(0.743, abs=5e-4)


def test_alpha_by_hand() -> None:
    counts = np.zeros((3, 3), int)
    counts[0, BETTER], counts[0, WORSE] = 1, 1  # two labelers disagree
    counts[1, BETTER] = 2  # two agree
    counts[2, TIE] = 2  # and two more
    # Coincidences o: better-worse 1, worse-better 1, better-better 2, tie-tie 2; n = 6; n_c = 3, 1, 2.
    # Observed disagreement 2; expected (36 - 9 - 1 - 4) / 5 = 22 / 5.
    assert krippendorff_alpha(counts) == pytest.approx(1 - 2 / (22 / 5))


def test_alpha_at_its_ends() -> None:
    assert krippendorff_alpha(np.array([[2, 0, 0], [0, 2, 0]])) == 1
    assert krippendorff_alpha(np.array([[2, 0, 0], [2, 0, 0]])) is None  # nothing varies
    assert krippendorff_alpha(np.zeros((0, 3), int)) is None
    chance = np.random.default_rng(0).multinomial(4, [0.5, 0.3, 0.2], size=20_000)
    assert krippendorff_alpha(chance) == pytest.approx(0, abs=0.01)


def test_shares_of_equal_judgments(collect: Collect) -> None:
    rows = collect(
        ("p", "ann", "abc", [1, 2, 3]),
        ("p", "bob", "bac", [1, 2, 2]),  # in another order: b > a, b > c, a ~ c
        ("p", "cat", "ab", [1, 2]),
        ("q", "ann", "ab", [1, 2]),  # of another prompt, and of one labeler only
        ("q", "ann", "ab", [2, 1]),
    )
    # a-b: better, worse, better; a-c: better, tie; b-c: better, better.
    measures = agreement(rows)
    assert measures == {
        "units": 3,
        "strict": pytest.approx(2 / 4),  # a-b: 1 of 3; b-c: 1 of 1
        "strict_pairs": 4,
        "with_ties": pytest.approx(2 / 5),  # and a-c: 0 of 1
        "pairs": 5,
        "krippendorff_alpha": krippendorff_alpha(np.array([[2, 1, 0], [1, 0, 1], [2, 0, 0]])),
        "majority_cycles": 0,
    }


def test_first_judgments_count_gaps_do_not_and_the_reference_is_no_labeler(collect: Collect) -> None:
    rows = collect(
        ("p", "ann", "abc", [1, 2, None]),
        ("p", "ann", "abc", [2, 1, 1]),  # again: only what is new in it, a-c and b-c
        ("p", "bob", "abc", [1, 2, None]),
        ("p", "reference", "abc", [2, 1, 3]),
    )
    assert (agreement(rows)["strict"], agreement(rows)["pairs"]) == (1, 1)


def test_without_overlap_there_is_nothing_to_say(collect: Collect) -> None:
    measures = agreement(
        collect(("p", "ann", "ab", [1, 2]), ("q", "bob", "ab", [1, 2]), ("p", "reference", "ab", [1, 2]))
    )
    assert measures == {
        "units": 0, "strict": None, "strict_pairs": 0, "with_ties": None, "pairs": 0, "krippendorff_alpha": None,
        "majority_cycles": 0,
    }  # fmt: skip


def test_a_majority_may_go_in_a_circle(collect: Collect) -> None:
    orders = ("abc", "bca", "cab")  # Condorcet's paradox: two of three prefer a to b, b to c, and c to a
    cycle: list[Any] = [("p", f"labeler {i}", order, [1, 2, 3]) for i, order in enumerate(orders)]
    line: list[Any] = [("q", f"labeler {i}", order, [1, 2, 3]) for i, order in enumerate(("abc", "acb", "bac"))]
    alone: list[Any] = [("r", "ann", pair, [1, 2]) for pair in ("ab", "bc", "ca")]  # one labeler's is no majority
    assert agreement(collect(*cycle, *line, *alone))["majority_cycles"] == 1


def test_against_a_loop_over_all_pairs_of_judgments(collect: Collect) -> None:
    chance = np.random.default_rng(1)
    rankings: list[Any] = []
    for _ in range(300):
        responses = "".join(chance.permutation(list("abcd"))[: chance.integers(2, 5)])
        who, prompt = f"l{chance.integers(4)}", f"p{chance.integers(12)}"
        rankings.append((prompt, who, responses, [int(r) for r in chance.integers(1, 4, len(responses))]))
    first: dict[Any, int] = {}
    for prompt, who, responses, ranks in rankings:
        for (a, x), (b, y) in itertools.combinations(sorted(zip(responses, ranks, strict=True)), 2):
            first.setdefault((prompt, a, b, who), (x > y) - (x < y))
    pairs = [(u, v) for (k, u), (m, v) in itertools.combinations(first.items(), 2) if k[:3] == m[:3]]
    strict = [u == v for u, v in pairs if u and v]
    measures = agreement(collect(*rankings))
    assert (measures["pairs"], measures["strict_pairs"]) == (len(pairs), len(strict))
    assert measures["with_ties"] == pytest.approx(np.mean([u == v for u, v in pairs]))
    assert measures["strict"] == pytest.approx(np.mean(strict))
