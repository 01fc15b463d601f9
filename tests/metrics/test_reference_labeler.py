"""The labeler that is no person."""

from metrics.reference_labeler import rank_by_reference
from metrics.sentence_chrf import sentence_chrf


def test_the_reference_labeler_ranks_by_chrf_and_signs_with_its_name() -> None:
    reference = "And Jesus himself was weeping."
    responses = ["Jesus slept.", reference, "And Jesus himself was weeping", "Nothing of the kind"]
    made = rank_by_reference("Jesus wept.", responses, reference, "test", [[r] for r in responses], tie_margin=5)
    scores = [sentence_chrf(r, reference) for r in responses]
    assert made.labeler == "reference"
    assert scores[1] - scores[2] < 5
    assert made.ranks == (3, 1, 1, 4)
    assert rank_by_reference("p", responses, reference, "test", [[]] * 4, tie_margin=0).ranks == (3, 1, 2, 4)
