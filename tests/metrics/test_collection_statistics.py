"""A collection in numbers."""

from collections.abc import Callable
from pathlib import Path

from data.comparisons.collection import read_collection
from data.comparisons.importing.appending import append_rankings
from data.comparisons.ranking import Ranking
from metrics.collection_statistics import statistics


def test_counts(tmp_path: Path, make: Callable[..., Ranking]) -> None:
    records = [
        make(),
        make(labeler="bob", ranks=[2, 1, None], origin="b.jsonl"),
        make(prompt="q", responses=["a", "b", "c", "d"], ranks=[1, 1, 1, 1]),
        make(prompt="q", labeler="reference"),
    ]
    append_rankings(records, tmp_path / "c")
    counts = statistics(read_collection(tmp_path / "c"))
    agreement = counts.pop("agreement")
    assert counts == {
        "rankings": 4,
        "prompts": 2,
        "responses_per_ranking": {"3": 3, "4": 1},
        "not_ranked_responses": 1,
        "strict_comparisons": 2 + 1 + 0 + 2,
        "tied_comparisons": 1 + 0 + 6 + 1,
        "labelers": 3,
        "by_reference_labeler": 1,
        "rankings_by_labeler": {"ann": 2, "bob": 1, "reference": 1},
        "origins": {"test": 3, "b.jsonl": 1},
    }
    assert (agreement["strict"], agreement["pairs"]) == (0, 1)
