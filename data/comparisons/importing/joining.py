"""Pairs of one prompt and labeler joined into rankings, where together they say an order of all their responses, and only there.

The responses are the nodes of a graph, the pairs its edges: from the better to the worse response, and both ways for a tie. A labeler
contradicts himself where a strict edge is on a cycle, that is inside a strong component: a > b > a, or a > b > c ~ a. The edges of such
cycles are left out. What remains has an order; a connected part of it becomes one ranking if each level of this order was compared with
the next, so that every comparison of the ranking was made or follows. Other pairs stay pairs.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

from data.comparisons.connected import Connected
from data.comparisons.ranking import Ranking


class Place(NamedTuple):
    """Where a judgment is: the file, and the line in it."""

    file: str
    line: int


class Judged(NamedTuple):
    """A ranking, and the places it comes from: several where pairs were joined."""

    ranking: Ranking
    places: tuple[Place, ...]


class Contradiction(NamedTuple):
    """Judgments of one labeler that cannot all be true."""

    labeler: str
    prompt: str
    places: tuple[Place, ...]


class _Edge(NamedTuple):
    better: int  # nodes: responses in the order in which they appeared
    worse: int
    tied: bool
    judged: Judged


def join(pairs: Sequence[Judged]) -> Iterator[Judged | Contradiction]:
    """Rankings and contradictions in `pairs`, all of K = 2, one prompt and one labeler. Equal pairs count once. Linear in the pairs."""
    if len(pairs) == 1:
        yield pairs[0]
        return
    texts, edges = _graph(pairs)
    edges, contradicting = _without_cycles(len(texts), edges)
    for cycle in contradicting:
        first = cycle[0].judged.ranking
        places = tuple(place for edge in cycle for place in edge.judged.places)
        yield Contradiction(first.labeler, first.prompt, places)
    for part in _parts(edges):
        ranks = _complete_order(part) if len(part) > 1 else None
        if ranks is None or len({edge.judged.ranking.weight for edge in part}) > 1:
            yield from (edge.judged for edge in part)
        else:
            yield _ranking(texts, ranks, part)


def _graph(pairs: Sequence[Judged]) -> tuple[list[str], list[_Edge]]:
    """The responses, and the pairs as edges; equal pairs are one edge with the places of all."""
    nodes: dict[str, int] = {}
    edges: dict[tuple[int, int, bool], _Edge] = {}
    for judged in pairs:
        (a, b), (rank_a, rank_b) = judged.ranking.responses, judged.ranking.ranks
        i, j = (nodes.setdefault(text, len(nodes)) for text in (a, b))
        assert rank_a is not None
        assert rank_b is not None
        tied = rank_a == rank_b
        better, worse = (min(i, j), max(i, j)) if tied else (i, j) if rank_a < rank_b else (j, i)
        same = edges.get((better, worse, tied))
        if same:
            judged = Judged(same.judged.ranking, same.judged.places + judged.places)
        edges[better, worse, tied] = _Edge(better, worse, tied, judged)
    return list(nodes), list(edges.values())


def _without_cycles(count: int, edges: list[_Edge]) -> tuple[list[_Edge], list[list[_Edge]]]:
    """The edges on no contradictory cycle, and those that are, by strong component."""
    component = _strong_components(count, edges)
    inside: dict[int, list[_Edge]] = {}
    for edge in edges:
        if component[edge.better] == component[edge.worse]:
            inside.setdefault(component[edge.better], []).append(edge)
    cycles = [_core(members) for members in inside.values() if not all(edge.tied for edge in members)]
    dropped = {edge[:3] for cycle in cycles for edge in cycle}
    return [edge for edge in edges if edge[:3] not in dropped], cycles


def _core(edges: list[_Edge]) -> list[_Edge]:
    """Edges of a strong component without the ties that only hang on it: those contradict nothing."""
    while True:
        degree = Counter(node for edge in edges for node in edge[:2])
        core = [edge for edge in edges if degree[edge.better] > 1 and degree[edge.worse] > 1]
        if len(core) == len(edges):
            return edges
        edges = core


def _strong_components(count: int, edges: list[_Edge]) -> list[int]:
    """The strong component of each node, by two depth-first searches (Kosaraju), without recursion."""
    forward: list[list[int]] = [[] for _ in range(count)]
    backward: list[list[int]] = [[] for _ in range(count)]
    for edge in edges:
        for a, b in [(edge.better, edge.worse)] + [(edge.worse, edge.better)] * edge.tied:
            forward[a].append(b)
            backward[b].append(a)
    finished: list[int] = []
    seen = [False] * count
    for root in range(count):
        _search(root, forward, seen, finished)
    component = [-1] * count
    seen = [False] * count
    for root in reversed(finished):
        members: list[int] = []
        _search(root, backward, seen, members)
        for node in members:
            component[node] = root
    return component


def _search(root: int, successors: list[list[int]], seen: list[bool], finished: list[int]) -> None:
    """Adds the nodes reached from `root` that were not yet seen to `finished`, each after those it leads to."""
    if seen[root]:
        return
    seen[root] = True
    path = [(root, iter(successors[root]))]
    while path:
        node, rest = path[-1]
        for successor in rest:
            if not seen[successor]:
                seen[successor] = True
                path.append((successor, iter(successors[successor])))
                break
        else:
            path.pop()
            finished.append(node)


def _parts(edges: list[_Edge]) -> list[list[_Edge]]:
    """The edges of each connected part, in order of first appearance."""
    connected = _connected(edges)
    parts: dict[int, list[_Edge]] = {}
    for edge in edges:
        parts.setdefault(connected.part(edge.better), []).append(edge)
    return list(parts.values())


def _connected(edges: Iterable[_Edge]) -> Connected[int]:
    connected = Connected[int]()
    for edge in edges:
        connected.connect(edge.better, edge.worse)
    return connected


def _complete_order(part: list[_Edge]) -> dict[int, int] | None:
    """Ranks 1, 2, ... of the nodes of a part without contradictions; None where two of them are not compared, even indirectly."""
    nodes = {node for edge in part for node in edge[:2]}
    level = _connected(edge for edge in part if edge.tied).part  # tied nodes are on one level
    strict = {(level(edge.better), level(edge.worse)) for edge in part if not edge.tied}
    order = TopologicalSorter({level(node): set[int]() for node in nodes})
    for better, worse in strict:
        order.add(worse, better)
    levels = list(order.static_order())
    if any(step not in strict for step in itertools.pairwise(levels)):
        return None
    rank = {level_node: number for number, level_node in enumerate(levels, start=1)}
    return {node: rank[level(node)] for node in nodes}


def _ranking(texts: list[str], ranks: dict[int, int], part: list[_Edge]) -> Judged:
    nodes = sorted(ranks)
    judgments = [edge.judged.ranking for edge in part]
    first = judgments[0]
    systems: dict[str, tuple[str, ...]] = {}
    for judgment in judgments:
        systems.update(zip(judgment.responses, judgment.systems or (), strict=False))
    joined = Ranking(
        messages=first.messages,
        prompt=first.prompt,
        responses=tuple(texts[node] for node in nodes),
        ranks=tuple(ranks[node] for node in nodes),
        labeler=first.labeler,
        origin=first.origin,
        reference=next((j.reference for j in judgments if j.reference), None),
        systems=tuple(systems.get(texts[node], ()) for node in nodes) if systems else None,
        time=judgments[-1].time,
        weight=first.weight,
        id="+".join(dict.fromkeys(j.id for j in judgments if j.id)) or None,
    )
    return Judged(joined, tuple(place for edge in part for place in edge.judged.places))
