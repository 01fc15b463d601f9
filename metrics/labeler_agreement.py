"""How far labelers agree with each other.

A *unit* is a pair of responses to one prompt; a labeler's judgment of it is better, worse or tie, seen from the text that sorts first. Where
a labeler judged a unit more than once, the first judgment in the collection counts. The labeler `reference` is no person and is left out.
"""

import itertools
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

import datasets
import numpy as np

from data.arrow import chunks
from data.comparisons.ranking import REFERENCE_LABELER

BETTER, WORSE, TIE = range(3)


def agreement(rows: datasets.Dataset) -> dict[str, Any]:
    """Measures over all units that several labelers judged; None where there are none.

    `strict`: of two labelers' judgments of a unit, both no tie, the share that is equal; `with_ties`: the same with tie as a third
    value; each with the number of such pairs of judgments. `krippendorff_alpha`: see there. `majority_cycles`: prompts where "more
    labelers prefer a to b than b to a" leads in a circle, over all units of prompts with several labelers.
    """
    counts, cycles = array("q"), 0
    for judged in _prompts_of_several(rows):
        units = _units(judged)
        counts.extend(itertools.chain.from_iterable(units.values()))
        cycles += _has_cycle(units)
    table = np.frombuffer(counts, np.int64).reshape(-1, 3)
    return {**agreement_of_counts(table), "majority_cycles": cycles}


def agreement_of_counts(counts: np.ndarray) -> dict[str, Any]:
    """`agreement` of units given as (units, 3) numbers of labelers that judged better, worse and tie."""
    counts = counts[counts.sum(1) > 1]
    strict, ties = counts[:, [BETTER, WORSE]], counts
    return {
        "units": len(counts),
        "strict": _share(strict),
        "strict_pairs": int(_pairs(strict.sum(1)).sum()),
        "with_ties": _share(ties),
        "pairs": int(_pairs(ties.sum(1)).sum()),
        "krippendorff_alpha": krippendorff_alpha(counts),
    }


def krippendorff_alpha(counts: np.ndarray) -> float | None:
    """Nominal alpha of (units, values) numbers of judgments: 1 is perfect, 0 is chance, None where all judgments are one value.

    1 - observed / expected disagreement by the coincidences of values within units (Krippendorff 2011, "Computing Krippendorff's
    alpha-reliability", https://repository.upenn.edu/handle/20.500.14332/2089).
    """
    m = counts.sum(1, keepdims=True)  # judgments of each unit
    counts, m = counts[m[:, 0] > 1], m[m[:, 0] > 1]
    n_c = counts.sum(0)
    n = n_c.sum()
    observed = n - (counts * (counts - 1) / (m - 1)).sum()  # coincidences of unlike values
    expected = (n**2 - (n_c**2).sum()) / max(1, n - 1)
    return float(1 - observed / expected) if expected else None


def _pairs(n: np.ndarray) -> np.ndarray:
    return n * (n - 1) // 2


def _share(counts: np.ndarray) -> float | None:
    """Of all pairs of judgments of one unit, the share whose two values are equal."""
    pairs = _pairs(counts.sum(1)).sum()
    return float(_pairs(counts).sum() / pairs) if pairs else None


Judged = tuple[str, list[str], list[int | None]]  # labeler, responses, ranks


def _prompts_of_several(rows: datasets.Dataset) -> Iterator[list[Judged]]:
    """The judgments of each prompt that several labelers judged. The others, in a large collection most, are never taken apart."""
    prompts, labelers = _codes(rows, "prompt"), _codes(rows, "labeler")
    people = np.flatnonzero(labelers >= 0)
    people = people[np.argsort(prompts[people], kind="stable")]
    starts = np.flatnonzero(np.diff(prompts[people], prepend=-1))
    chosen = [group for group in np.split(people, starts[1:]) if len(group) > 1 and len(set(labelers[group])) > 1]
    if not chosen:
        return
    columns = rows.select_columns(["labeler", "responses", "ranks"])
    table = iter(columns.select(np.concatenate(chosen)))
    for group in chosen:
        yield [(row["labeler"], row["responses"], row["ranks"]) for row in itertools.islice(table, len(group))]


def _codes(rows: datasets.Dataset, column: str) -> np.ndarray:
    """(rows,) numbers from 0 that are equal where the texts are; -1 for the labeler `reference`."""
    codes = {REFERENCE_LABELER: -1} if column == "labeler" else {}
    texts = (text for chunk in chunks(rows, column) for text in chunk.to_pylist())
    return np.fromiter((codes.setdefault(text, len(codes)) for text in texts), np.int64, len(rows))


def _units(judged: Iterable[Judged]) -> dict[tuple[str, str], list[int]]:
    """Numbers of labelers that judged better, worse and tie, for each unit of a prompt."""
    units: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    seen = set()
    for labeler, responses, ranks in judged:
        ranked = sorted((text, rank) for text, rank in zip(responses, ranks, strict=True) if rank is not None)
        for (a, rank_a), (b, rank_b) in itertools.combinations(ranked, 2):
            if (labeler, a, b) not in seen:
                seen.add((labeler, a, b))
                units[a, b][TIE if rank_a == rank_b else BETTER if rank_a < rank_b else WORSE] += 1
    return units


def _has_cycle(units: dict[tuple[str, str], list[int]]) -> bool:
    order = TopologicalSorter[str]()
    for (a, b), (better, worse, _) in units.items():
        if better != worse:
            order.add(*((b, a) if better > worse else (a, b)))
    try:
        order.prepare()
    except CycleError:
        return True
    return False
