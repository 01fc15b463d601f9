"""A comparison collection on disk: one Arrow folder of rankings."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets

from data.arrow import stored_rows
from data.comparisons.ranking import REFERENCE_LABELER, Ranking
from data.errors import InputError
from data.folders import finished_folder

_FEATURES = datasets.Features(
    {
        "prompt": datasets.Value("string"),
        "responses": datasets.List(datasets.Value("string")),
        "ranks": datasets.List(datasets.Value("int32")),
        "labeler": datasets.Value("string"),
        "origin": datasets.Value("string"),
        "reference": datasets.Value("string"),
        "systems": datasets.List(datasets.List(datasets.Value("string"))),
    }
)


def write_collection(rankings: Iterable[Ranking], folder: Path) -> int:
    """Stores rankings as they come (memory stays flat); `folder` appears when all are stored. Returns their number."""
    with finished_folder(folder) as partial, tempfile.TemporaryDirectory(dir=partial.parent) as cache:
        stored = stored_rows((r.model_dump() for r in rankings), _FEATURES, Path(cache))
        count = len(stored)
        if not count:
            raise InputError("there is no ranking to store.")
        stored.save_to_disk(partial)
    return count


def read_collection(folder: Path) -> datasets.Dataset:
    """The rows of a collection. Raises InputError when `folder` holds none."""
    try:
        rows = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise InputError(
            f"{folder}: no comparison collection ({error}). Make one: gradus comparisons import FILE --output {folder}"
        ) from None
    missing = set(_FEATURES) - set(rows.column_names)
    if missing:
        raise InputError(f"{folder}: not a comparison collection: it lacks {', '.join(sorted(missing))}.")
    return rows


def rankings(rows: datasets.Dataset) -> Iterator[Ranking]:
    """The rows as records, in order."""
    for row in rows:
        yield Ranking.model_validate(row)


def statistics(rows: datasets.Dataset) -> dict[str, Any]:
    """Counts: rankings, prompts, K, comparisons, ties, labelers, origins."""
    sizes, labelers, origins = Counter[int](), Counter[str](), Counter[str]()
    strict = tied = 0
    for batch in rows.select_columns(["ranks", "labeler", "origin"]).iter(1000):
        labelers.update(batch["labeler"])
        origins.update(batch["origin"])
        for ranks in batch["ranks"]:
            k = len(ranks)
            sizes[k] += 1
            ties = sum(n * (n - 1) // 2 for n in Counter(ranks).values())
            tied += ties
            strict += k * (k - 1) // 2 - ties
    return {
        "rankings": len(rows),
        "prompts": len(set(rows["prompt"])),
        "responses_per_ranking": {str(k): sizes[k] for k in sorted(sizes)},
        "strict_comparisons": strict,
        "tied_comparisons": tied,
        "labelers": len(labelers),
        "by_reference_labeler": labelers[REFERENCE_LABELER],  # no person judged these
        "origins": dict(origins.most_common()),
    }
