"""Each measure against a value worked out by hand or by another library."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from metrics.rankings import (
    accuracy,
    best_of_n,
    calibration,
    compare,
    evaluate,
    kendall_tau,
    length_slope,
    log_loss,
    padded,
    temperature,
    won_share,
)

SCORES = np.array([[2.0, 1.0, 1.0, 9.0], [0.0, 5.0, 0.0, 0.0]])
RANKS = np.array([[1, 2, 3, 0], [1, 2, 0, 0]])


def test_comparisons_are_the_strict_ones() -> None:
    comparisons = compare(SCORES, RANKS)
    assert comparisons.difference.tolist() == [1, 1, 0, -5]
    assert comparisons.distance.tolist() == [1, 2, 1, 1]
    assert comparisons.ranking.tolist() == [0, 0, 0, 1]
    assert accuracy(comparisons.difference) == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    expected = (2 * math.log1p(math.exp(-1)) + math.log(2) + math.log1p(math.exp(5))) / 4
    assert log_loss(comparisons.difference) == pytest.approx(expected)
    assert len(compare(SCORES, np.ones((2, 4)))) == 0
    assert math.isnan(accuracy(np.zeros(0)))


def test_the_temperature_is_found_again_and_repairs_the_calibration() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 40_000)
    right = random.random(len(logits)) < 1 / (1 + np.exp(-np.abs(logits)))
    difference = np.where(right, np.abs(logits), -np.abs(logits))
    assert temperature(difference) == pytest.approx(1, abs=0.03)
    assert temperature(difference * 3) == pytest.approx(3, abs=0.1)
    best = temperature(difference * 3)
    assert log_loss(difference * 3, best) < min(log_loss(difference * 3, best * f) for f in (0.9, 1.1))
    assert calibration(difference)[0] < 0.01
    assert calibration(difference * 3)[0] > 0.1
    assert calibration(difference * 3, best)[0] < 0.01


def test_calibration_by_hand() -> None:
    sure = math.log(0.95 / 0.05)  # probability .95
    error, curve = calibration(np.array([sure, sure, sure, -sure, 0.0]))
    assert curve == [
        {"confidence": 0.5, "accuracy": 0.5, "share": 0.2},
        {"confidence": pytest.approx(0.95), "accuracy": 0.75, "share": 0.8},
    ]
    assert error == pytest.approx(0.8 * 0.2)


def test_kendalls_tau_is_scipys() -> None:
    random = np.random.default_rng(1)
    scores, ranks = random.integers(0, 4, (20, 6)).astype(float), random.integers(1, 5, (20, 6))
    expected = [scipy.stats.kendalltau(s, -r).statistic for s, r in zip(scores, ranks, strict=True)]
    assert kendall_tau(scores, ranks) == pytest.approx(np.nanmean(expected))
    assert kendall_tau(np.zeros((2, 3)), np.array([[1, 2, 3], [1, 1, 1]])) == 0
    wider = np.concatenate([ranks, np.zeros((20, 2), int)], 1), np.concatenate([scores, random.random((20, 2))], 1)
    assert kendall_tau(wider[1], wider[0]) == pytest.approx(np.nanmean(expected))


def test_the_length_slope_is_within_prompts() -> None:
    lengths = np.array([[10.0, 20.0, 30.0], [500.0, 510.0, 0.0]])
    ranks = np.array([[1, 2, 3], [1, 2, 0]])
    scores = 0.02 * lengths + np.array([[7.0], [-3.0]])
    slope = length_slope(scores, lengths, ranks)
    assert slope["slope_per_100_characters"] == pytest.approx(2)
    assert slope["correlation"] == pytest.approx(1)
    assert length_slope(scores, np.ones((2, 3)), ranks) == {"slope_per_100_characters": 0.0, "correlation": 0.0}


def test_best_of_n_is_the_mean_over_all_choices() -> None:
    random = np.random.default_rng(2)
    scores, quality = random.random((3, 5)), random.random((3, 5))
    mask = np.arange(5) < np.array([[5], [4], [4]])
    curve = best_of_n(scores, quality, mask)
    assert len(curve) == 4
    for n, value in enumerate(curve, start=1):
        means = []
        for s, q, k in zip(scores, quality, (5, 4, 4), strict=True):
            chosen = [max(c, key=lambda i, s=s: s[i]) for c in itertools.combinations(range(k), n)]
            means.append(np.mean([q[i] for i in chosen]))
        assert value == pytest.approx(np.mean(means))


def test_the_won_share_counts_ties_half() -> None:
    assert won_share(np.array([[1, 2, 2, 4], [2, 1, 0, 0]])).tolist() == [[1, 0.5, 0.5, 0], [0, 1, 0, 0]]


def test_all_of_it_in_one_record() -> None:
    measures = evaluate(SCORES, RANKS, padded([[4, 2, 8], [9, 1]])[:, [0, 1, 2, 2]], 2.0)
    assert measures["comparisons"] == 4
    assert measures["accuracy_by_responses"] == {
        "2": {"accuracy": 0.0, "comparisons": 1},
        "3": {"accuracy": pytest.approx(2.5 / 3), "comparisons": 3},
    }
    assert measures["accuracy_by_rank_distance"]["2"] == {"accuracy": 1.0, "comparisons": 1}
    assert measures["longer_is_better"] == pytest.approx(0.5)
    assert measures["temperature"] == 2.0
    assert measures["log_loss_at_temperature"] < measures["log_loss"]
    assert measures["best_of_n_won_share"][0] == pytest.approx((0.5 + 0.5) / 2)
