"""How far to trust a reward model: its scores of responses against labelers' rankings.

Everything here takes scores and ranks as arrays (G, K) of G rankings with up to K responses: rank 1 is best, equal ranks are ties, 0 is no
response or one that is not ranked; scores there do not matter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 10  # of the calibration curve
LEAST = 1e-3  # temperature looked for, and one over the greatest


@dataclass(frozen=True)
class Comparisons:
    """All strict comparisons of some rankings: N pairs of a better and a worse response."""

    difference: np.ndarray  # (N,) score of the better minus score of the worse
    ranking: np.ndarray  # (N,) index of the ranking
    better: np.ndarray  # (N,) place of the better response in it
    worse: np.ndarray  # (N,)
    distance: np.ndarray  # (N,) ranks between the two

    def __len__(self) -> int:
        return len(self.difference)


def padded(rows: Sequence[Sequence[float]], fill: float = 0) -> np.ndarray:
    """(G, K) of G rows with up to K values; None counts as `fill`."""
    out = np.full((len(rows), max(map(len, rows), default=0)), fill, float)
    for i, row in enumerate(rows):
        out[i, : len(row)] = [fill if v is None else v for v in row]
    return out


def compare(scores: np.ndarray, ranks: np.ndarray) -> Comparisons:
    """The strict comparisons of rankings (G, K) with the scores' differences; ties and what is not ranked have none."""
    mask = ranks > 0
    strict = (ranks[:, :, None] < ranks[:, None, :]) & mask[:, :, None] & mask[:, None, :]
    ranking, better, worse = np.nonzero(strict)
    return Comparisons(
        difference=scores[ranking, better] - scores[ranking, worse],
        ranking=ranking,
        better=better,
        worse=worse,
        distance=(ranks[ranking, worse] - ranks[ranking, better]).astype(int),
    )


def accuracy(difference: np.ndarray) -> float:
    """Share of comparisons whose better response has the higher score; equal scores are half right."""
    return float(((difference > 0) + 0.5 * (difference == 0)).mean()) if len(difference) else math.nan


def log_loss(difference: np.ndarray, temperature: float = 1.0) -> float:
    """Mean of -log sigmoid(difference / temperature); log 2 for a scorer that knows nothing."""
    return float(np.logaddexp(0, -difference / temperature).mean()) if len(difference) else math.nan


def temperature(difference: np.ndarray) -> float | None:
    """The temperature with the least log loss: above 1 where the scores claim more than they know.

    The loss is convex in 1 / temperature; its slope is bisected. None where there is no such temperature: there are no comparisons, the
    scores are never wrong, or no better than chance.
    """
    low, high = LEAST, 1 / LEAST  # of 1 / temperature
    if not len(difference):
        return None
    for _ in range(80):
        middle = math.sqrt(low * high)
        slope = -(difference / (1 + np.exp(np.clip(difference * middle, -700, 700)))).mean()
        low, high = (middle, high) if slope < 0 else (low, middle)
    value = 1 / math.sqrt(low * high)
    return value if 2 * LEAST < value < 0.5 / LEAST else None


def calibration(difference: np.ndarray, temperature: float = 1.0) -> tuple[float, list[dict[str, float]]]:
    """Expected calibration error (Naeini et al. 2015) of the probability given to the response with the higher score.

    Returns:
        The error, and for each of 10 equal bins of the probabilities .5 to 1: `confidence`, `accuracy` and `share`.
    """
    claimed = 1 / (1 + np.exp(-np.abs(difference) / temperature))
    right = (difference > 0) + 0.5 * (difference == 0)
    bins = np.minimum(((claimed - 0.5) * 2 * BINS).astype(int), BINS - 1)
    curve = [
        {
            "confidence": float(claimed[inside].mean()),
            "accuracy": float(right[inside].mean()),
            "share": float(inside.mean()),
        }
        for inside in (bins == b for b in range(BINS))
        if inside.any()
    ]
    return sum(b["share"] * abs(b["confidence"] - b["accuracy"]) for b in curve), curve


def kendall_tau(scores: np.ndarray, ranks: np.ndarray) -> float:
    """Mean over rankings of Kendall's tau-b between scores and ranks; rankings where either has no order are left out, 0 if all are."""
    mask = ranks > 0
    both = (mask[:, :, None] & mask[:, None, :]) & np.triu(np.ones(ranks.shape[1:] * 2, bool), 1)
    by_score = np.sign(scores[:, :, None] - scores[:, None, :]) * both
    by_rank = np.sign(ranks[:, None, :] - ranks[:, :, None]) * both
    norm = np.sqrt((by_score != 0).sum((1, 2)) * (by_rank != 0).sum((1, 2)))
    agreed = (by_score * by_rank).sum((1, 2))
    return float((agreed[norm > 0] / norm[norm > 0]).mean()) if (norm > 0).any() else 0.0


def length_slope(scores: np.ndarray, lengths: np.ndarray, ranks: np.ndarray) -> dict[str, float]:
    """Least-squares slope of score on length among the responses to one prompt, for 100 characters, and the correlation."""
    mask = ranks > 0
    count = np.maximum(mask.sum(1, keepdims=True), 1)
    centred = [np.where(mask, x - (x * mask).sum(1, keepdims=True) / count, 0) for x in (scores, lengths)]
    covariance, spread = (centred[0] * centred[1]).sum(), (centred[1] ** 2).sum()
    norm = math.sqrt(spread * (centred[0] ** 2).sum())
    return {
        "slope_per_100_characters": float(100 * covariance / spread) if spread else 0.0,
        "correlation": float(covariance / norm) if norm else 0.0,
    }


def best_of_n(scores: np.ndarray, quality: np.ndarray, mask: np.ndarray) -> list[float]:
    """Mean quality of the response with the highest score among n, for n = 1, 2, ... up to the smallest K.

    Exact over all ways to choose n of a prompt's K responses: the one in place i by score (from 0) is the best of
    C(K - 1 - i, n - 1) of the C(K, n) choices.
    """
    order = np.argsort(np.where(mask, -scores, np.inf), 1, kind="stable")
    ranked = np.take_along_axis(quality, order, 1)
    counts = mask.sum(1)
    curve = []
    for n in range(1, int(counts.min(initial=quality.shape[1])) + 1):
        chance = np.array(
            [
                [math.comb(k - 1 - i, n - 1) / math.comb(k, n) if i < k >= n else 0.0 for i in range(quality.shape[1])]
                for k in range(quality.shape[1] + 1)
            ]
        )
        curve.append(float((chance[counts] * ranked).sum(1).mean()))
    return curve


def won_share(ranks: np.ndarray) -> np.ndarray:
    """(G, K) share of the other ranked responses that a response is ranked above, ties counting half: its quality as ranked."""
    mask = ranks > 0
    both = mask[:, :, None] & mask[:, None, :]
    won = ((ranks[:, :, None] < ranks[:, None, :]) & both).sum(2)
    tied = ((ranks[:, :, None] == ranks[:, None, :]) & both).sum(2) - mask
    return np.where(mask, (won + 0.5 * tied) / np.maximum(mask.sum(1, keepdims=True) - 1, 1), 0)


def evaluate(
    scores: np.ndarray, ranks: np.ndarray, lengths: np.ndarray, fitted_temperature: float | None = None
) -> dict[str, Any]:
    """All of the above but best-of-n by other qualities, as one JSON-able record.

    `fitted_temperature` comes from other rankings than these (the validation part); without one, what depends on it is left out.
    """
    comparisons = compare(scores, ranks)
    sizes = (ranks > 0).sum(1)
    error, curve = calibration(comparisons.difference)
    result: dict[str, Any] = {
        "rankings": len(ranks),
        "comparisons": len(comparisons),
        "accuracy": accuracy(comparisons.difference),
        "log_loss": log_loss(comparisons.difference),
        "chance_accuracy": 0.5,
        "chance_log_loss": math.log(2),
        "kendall_tau": kendall_tau(scores, ranks),
        "temperature": fitted_temperature,
        "calibration_error": error,
        "calibration_curve": curve,
        "accuracy_by_responses": _accuracy_by(comparisons.difference, sizes[comparisons.ranking]),
        "accuracy_by_rank_distance": _accuracy_by(comparisons.difference, comparisons.distance),
        "longer_is_better": accuracy(compare(lengths, ranks).difference),
        "length": length_slope(scores, lengths, ranks),
        "best_of_n_won_share": best_of_n(scores, won_share(ranks), ranks > 0),
    }
    if fitted_temperature is not None:
        result["log_loss_at_temperature"] = log_loss(comparisons.difference, fitted_temperature)
        result["calibration_error_at_temperature"] = calibration(comparisons.difference, fitted_temperature)[0]
    return result


def _accuracy_by(difference: np.ndarray, key: np.ndarray) -> dict[str, dict[str, float]]:
    return {
        str(k): {"accuracy": accuracy(difference[key == k]), "comparisons": int((key == k).sum())}
        for k in np.unique(key).tolist()
    }
