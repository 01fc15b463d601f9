"""What is in a collection, in numbers."""

from collections import Counter
from typing import Any

import datasets

from data.arrow import chunks
from data.comparisons.ranking import REFERENCE_LABELER
from metrics.labeler_agreement import agreement


def statistics(rows: datasets.Dataset) -> dict[str, Any]:
    """Counts (rankings, prompts, K, comparisons, ties, labelers, origins) and the agreement between labelers."""
    sizes, labelers, origins = Counter[int](), Counter[str](), Counter[str]()
    strict = tied = not_ranked = 0
    for batch in rows.select_columns(["ranks", "labeler", "origin"]).iter(1000):
        labelers.update(batch["labeler"])
        origins.update(batch["origin"])
        for ranks in batch["ranks"]:
            sizes[len(ranks)] += 1
            k = len(ranks) - ranks.count(None)
            not_ranked += len(ranks) - k
            ties = sum(n * (n - 1) // 2 for rank, n in Counter(ranks).items() if rank is not None)
            tied += ties
            strict += k * (k - 1) // 2 - ties
    return {
        "rankings": len(rows),
        "prompts": len({text for chunk in chunks(rows, "prompt") for text in chunk.to_pylist()}),
        "responses_per_ranking": {str(k): sizes[k] for k in sorted(sizes)},
        "not_ranked_responses": not_ranked,
        "strict_comparisons": strict,
        "tied_comparisons": tied,
        "labelers": len(labelers),
        "by_reference_labeler": labelers[REFERENCE_LABELER],  # no person judged these
        "rankings_by_labeler": dict(labelers.most_common()),
        "origins": dict(origins.most_common()),
        "agreement": agreement(rows),
    }
