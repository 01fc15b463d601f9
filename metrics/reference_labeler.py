"""The `reference` labeler: ranks responses by their similarity to a reference. No person judged anything here."""

from data.comparisons.ranking import REFERENCE_LABELER, Ranking
from metrics.sentence_chrf import sentence_chrf


def rank_by_reference(
    prompt: str, responses: list[str], reference: str, origin: str, systems: list[list[str]], tie_margin: float
) -> Ranking:
    """A ranking by sentence chrF against the reference, always marked with the labeler `reference`.

    Responses within `tie_margin` chrF points of the best of their rank are tied with it.
    """
    scores = [sentence_chrf(r, reference) for r in responses]
    order = sorted(range(len(responses)), key=lambda i: -scores[i])
    ranks = [0] * len(responses)
    rank, leader = 0, float("inf")
    for position, i in enumerate(order, start=1):
        if leader - scores[i] > tie_margin:
            rank, leader = position, scores[i]
        ranks[i] = rank
    return Ranking(
        prompt=prompt, responses=tuple(responses), ranks=tuple(ranks), labeler=REFERENCE_LABELER,
        origin=origin, reference=reference, systems=tuple(map(tuple, systems)),
    )  # fmt: skip
