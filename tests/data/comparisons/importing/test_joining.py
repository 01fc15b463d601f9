"""Pairs joined into rankings, against what follows from them by brute force."""

import itertools
import random
import time
from collections.abc import Iterable

import pytest

from data.comparisons.importing.joining import Contradiction, Judged, Place, join
from data.comparisons.ranking import Ranking

Comparison = tuple[str, str, str]  # ("a", ">", "b") or ("a", "~", "b")


def judged(comparison: str, line: int, **more: object) -> Judged:
    """`a>b` or `a~b`, as line `line`."""
    a, sign, b = comparison
    record = {"prompt": "p", "labeler": "ann", "origin": "o", **more}
    ranking = Ranking(responses=(a, b), ranks=(1, 1 if sign == "~" else 2), **record)
    return Judged(ranking, (Place("f", line),))


def joined(*comparisons: str) -> tuple[list[str], list[list[int]]]:
    """Rankings, written `a>b~c`, and the lines of each contradiction."""
    joined = list(join([judged(c, i) for i, c in enumerate(comparisons)]))
    rankings = [written(f.ranking) for f in joined if isinstance(f, Judged)]
    return rankings, [sorted(p.line for p in f.places) for f in joined if isinstance(f, Contradiction)]


def written(ranking: Ranking) -> str:
    levels: dict[int, list[str]] = {}
    for text, rank in zip(ranking.responses, ranking.ranks, strict=True):
        levels.setdefault(rank or 0, []).append(text)
    assert sorted(levels) == list(range(1, len(levels) + 1))
    return ">".join("~".join(sorted(levels[rank])) for rank in sorted(levels))


@pytest.mark.parametrize(
    ("comparisons", "rankings"),
    [
        ("a>b b>c a>c", ["a>b>c"]),
        ("b>c a>b", ["a>b>c"]),  # a>c follows
        ("a>b a>c", ["a>b", "a>c"]),  # b and c were not compared
        ("a>b c>b", ["a>b", "c>b"]),
        ("a~b b~c", ["a~b~c"]),
        ("a~b b>c", ["a~b>c"]),
        ("a>b b~c c>d", ["a>b~c>d"]),
        ("a>b b>c c>d a>e e>d", ["a>b", "b>c", "c>d", "a>e", "e>d"]),  # e against b and c is open
        ("a>b c>d d>e", ["a>b", "c>d>e"]),
        ("a>b a>b", ["a>b"]),
        ("a~b b~a", ["a~b"]),
    ],
)
def test_an_order_that_is_complete_becomes_one_ranking(comparisons: str, rankings: list[str]) -> None:
    assert joined(*comparisons.split()) == (rankings, [])


@pytest.mark.parametrize(
    ("comparisons", "rankings", "contradictions"),
    [
        ("a>b b>a", [], [[0, 1]]),
        ("a>b b>a a>b", [], [[0, 1, 2]]),
        ("a>b b>c c>a", [], [[0, 1, 2]]),
        ("a>b a~b", [], [[0, 1]]),
        ("a>b b~c c~a", [], [[0, 1, 2]]),
        ("a>b b>a c>d", ["c>d"], [[0, 1]]),
        ("a>b b>a b>c c>d", ["b>c>d"], [[0, 1]]),
        ("a>b b>a a~c c~d", ["a~c~d"], [[0, 1]]),  # ties that hang on a cycle contradict nothing
        ("a>b b>a c>d d>c", [], [[0, 1], [2, 3]]),
    ],
)
def test_what_contradicts_itself_is_left_out(
    comparisons: str, rankings: list[str], contradictions: list[list[int]]
) -> None:
    assert joined(*comparisons.split()) == (rankings, contradictions)


def closure(comparisons: Iterable[Comparison]) -> set[Comparison]:
    """All comparisons that follow."""
    relations = {c for a, sign, b in comparisons for c in ([(a, sign, b)] + ([(b, sign, a)] if sign == "~" else []))}
    while True:
        more = {
            (a, ">" if ">" in (s, t) else "~", d)
            for (a, s, b), (c, t, d) in itertools.product(relations, relations)
            if b == c and (a != d or ">" in (s, t))
        } - relations
        if not more:
            return relations
        relations |= more


def test_nothing_is_stated_that_does_not_follow_and_nothing_that_was_said_is_lost() -> None:
    chance = random.Random(0)
    seen_rankings = seen_contradictions = 0
    for _ in range(3000):
        texts = "abcde"[: chance.randint(2, 5)]
        said = [
            (*chance.sample(texts, 2), chance.choices(">~", [3, 1])[0]) for _ in range(chance.randint(1, 7))
        ]  # fmt: skip
        comparisons = [f"{a}{sign}{b}" for a, b, sign in said]
        joined = list(join([judged(c, i) for i, c in enumerate(comparisons)]))

        places = [p.line for f in joined for p in f.places]
        assert sorted(places) == list(range(len(said)))  # every pair has one fate
        dropped = {p.line for f in joined if isinstance(f, Contradiction) for p in f.places}
        everything = closure([tuple(c) for c in comparisons])
        for i, (a, b, sign) in enumerate(said):
            if sign == ">":  # a strict pair is dropped exactly if the opposite follows
                assert (i in dropped) == bool(everything & {(b, ">", a), (b, "~", a)}), comparisons

        kept = [tuple(c) for i, c in enumerate(comparisons) if i not in dropped]
        follows = closure(kept)
        assert not any((a, ">", a) in follows for a in texts), comparisons
        stated: set[Comparison] = set()
        for f in joined:
            if isinstance(f, Judged):
                ranks = list(zip(f.ranking.responses, f.ranking.ranks, strict=True))
                for (a, x), (b, y) in itertools.permutations(ranks, 2):
                    if x is not None and y is not None and x <= y:
                        stated.add((a, "~" if x == y else ">", b))
                seen_rankings += len(ranks) > 2
        assert closure(kept) >= stated >= closure(kept) & {(a, s, b) for a, s, b in kept}, comparisons
        seen_contradictions += bool(dropped)
    assert min(seen_rankings, seen_contradictions) > 300


def test_a_joined_ranking_keeps_what_its_pairs_know() -> None:
    pairs = [
        judged("a>b", 3, systems=[["s1"], ["s2"]], id="x", time="2024-01-01"),
        judged("b>c", 5, systems=[["s2"], ["s3"]], id="y", time="2024-01-02", reference="r"),
    ]
    (found,) = join(pairs)
    assert isinstance(found, Judged)
    assert found.places == (Place("f", 3), Place("f", 5))
    made = found.ranking
    assert (made.responses, made.ranks, made.systems) == (("a", "b", "c"), (1, 2, 3), (("s1",), ("s2",), ("s3",)))
    assert (made.id, made.time, made.reference) == ("x+y", "2024-01-02", "r")


def test_pairs_of_unlike_weight_stay_pairs() -> None:
    pairs = [judged("a>b", 0, weight=1), judged("b>c", 1, weight=2)]
    assert list(join(pairs)) == pairs


def test_many_pairs_of_one_prompt_take_a_moment() -> None:
    names = [f"response {i}" for i in range(10_000)]
    record = {"prompt": "p", "labeler": "ann", "origin": "o", "ranks": (1, 2)}
    chain = [Judged(Ranking(responses=pair, **record), (Place("f", 0),)) for pair in itertools.pairwise(names)]
    apart = [
        Judged(Ranking(responses=(f"{n}x", f"{n}{end}"), **record), (Place("f", 0),)) for n in names for end in "yz"
    ]
    started = time.process_time()
    assert [len(f.ranking.responses) for f in join(chain) if isinstance(f, Judged)] == [10_000]
    assert len(list(join(apart))) == 20_000
    assert time.process_time() - started < 10
