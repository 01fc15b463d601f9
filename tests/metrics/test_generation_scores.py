"""E2E metrics: the challenge script's scores, naive formulas, and what must hold at the edges."""

import itertools
import math
import random
from collections import Counter

import pytest

from metrics.generation.cider import cider
from metrics.generation.meteor_exact_stem import METEOR_ALPHA, METEOR_BETA, METEOR_GAMMA, align, meteor_exact_stem
from metrics.generation.nist import nist
from metrics.generation.rouge_l import longest_common_subsequence, rouge_l
from metrics.generation.scores import e2e_scores
from metrics.generation.words import mteval_words, treebank_words

TEXTS = [
    "Alimentum is not family-friendly, and is near the Burger King in the city centre.",
    "The Mill serves £20-25 food; it doesn't welcome kids.",
    "Zizzi is a pub.",
]
REFERENCES = [
    [
        "Alimentum is located in the city centre. It is not family-friendly.",
        "Near Burger King in city centre is the adult establishment Alimentum.",
    ],
    [
        "At The Mill you pay £20-25. Kids are not welcomed.",
        "The Mill doesn't welcome kids and costs £20-25.",
        "The Mill: no kids, 20 to 25 pounds.",
    ],
    ["Zizzi is a pub."],
]


OFFICIAL = {"nist": 4.2689, "meteor_exact_stem": 0.4516, "rouge_l": 0.688998, "cider": 5.031826}


def random_corpus(seed: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    drawn = random.Random(seed)

    def text() -> list[str]:
        return [drawn.choice("abcdefg") for _ in range(drawn.randint(1, 9))]

    return [text() for _ in range(12)], [[text() for _ in range(drawn.randint(1, 4))] for _ in range(12)]


def grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


@pytest.mark.parametrize("seed", range(5))
def test_nist_is_doddingtons_formula(seed: int) -> None:
    texts, references = random_corpus(seed)
    everything = [r for group in references for r in group]
    total = 0.0
    for n in range(1, 6):
        shown, information = 0, 0.0
        for words, group in zip(texts, references, strict=True):
            mine = grams(words, n)
            shown += len(mine)
            for gram in set(mine):
                matched = min(mine.count(gram), max(grams(r, n).count(gram) for r in group))
                if matched:
                    before = (
                        sum(grams(r, n - 1).count(gram[:-1]) for r in everything)
                        if n > 1
                        else sum(map(len, everything))
                    )
                    information += matched * math.log2(before / sum(grams(r, n).count(gram) for r in everything))
        total += information / max(shown, 1)
    ratio = sum(map(len, texts)) / (sum(map(len, everything)) / (len(everything) / len(texts)))
    beta = -math.log(0.5) / math.log(1.5) ** 2
    assert nist(texts, references) == pytest.approx(total * math.exp(-beta * math.log(min(1, ratio)) ** 2))


@pytest.mark.parametrize("seed", range(5))
def test_rouge_l_is_lins_formula(seed: int) -> None:
    def lcs(a: list[str], b: list[str]) -> int:
        if not a or not b:
            return 0
        return lcs(a[:-1], b[:-1]) + 1 if a[-1] == b[-1] else max(lcs(a[:-1], b), lcs(a, b[:-1]))

    texts, references = random_corpus(seed)
    expected = []
    for words, group in zip(texts, references, strict=True):
        assert [longest_common_subsequence(words, r) for r in group] == [lcs(words, r) for r in group]
        precision, recall = max(lcs(words, r) / len(words) for r in group), max(lcs(words, r) / len(r) for r in group)
        expected.append((1 + 1.44) * precision * recall / (recall + 1.44 * precision) if precision else 0.0)
    assert rouge_l(texts, references) == pytest.approx(sum(expected) / len(expected))


@pytest.mark.parametrize("seed", range(5))
def test_cider_is_the_papers_formula(seed: int) -> None:
    texts, references = random_corpus(seed)

    def vector(words: list[str], n: int) -> dict[tuple[str, ...], float]:
        def idf(gram: tuple[str, ...]) -> float:
            return math.log(len(texts) / max(1, sum(any(gram in grams(r, n) for r in group) for group in references)))

        return {gram: count * idf(gram) for gram, count in Counter(grams(words, n)).items()}

    total = 0.0
    for words, group in zip(texts, references, strict=True):
        for r, n in itertools.product(group, range(1, 5)):
            a, b = vector(words, n), vector(r, n)
            norms = math.sqrt(sum(x * x for x in a.values())) * math.sqrt(sum(x * x for x in b.values()))
            product = sum(min(a[g], b[g]) * b[g] for g in a.keys() & b.keys())
            penalty = math.exp(-((len(words) - len(r)) ** 2) / (2 * 6**2))
            total += 10 * penalty * (product / norms if norms else 0) / 4 / len(group) / len(texts)
    assert cider(texts, references) == pytest.approx(total)


@pytest.mark.parametrize("seed", range(20))
def test_the_alignment_is_the_best_of_all(seed: int) -> None:
    drawn = random.Random(seed)
    text, reference = ([drawn.choice("abcd") for _ in range(drawn.randint(1, 6))] for _ in range(2))

    def all_alignments(i: int, used: frozenset[int]) -> list[list[tuple[int, int]]]:
        if i == len(text):
            return [[]]
        alignments = all_alignments(i + 1, used)
        for j, word in enumerate(reference):
            if word == text[i] and j not in used:
                alignments = alignments + [[(i, j), *rest] for rest in all_alignments(i + 1, used | {j})]
        return alignments

    def key(pairs: list[tuple[int, int]]) -> tuple[int, int]:
        chunks = sum(not (a[0] + 1 == b[0] and a[1] + 1 == b[1]) for a, b in itertools.pairwise(pairs)) + bool(pairs)
        return len(pairs), -chunks

    words, chunks = max(key(pairs) for pairs in all_alignments(0, frozenset()))
    matches = align(text, reference)
    whole = chunks == -1 and words == len(text) == len(reference)
    assert (matches.words, -matches.chunks) == (words, 0 if whole else chunks)


def test_meteor_by_hand() -> None:
    # the cat sat / the cats sat down: "cat" by its stem, one chunk; "the" is a function word
    matched = 0.75 * (0.6 + 1) + 0.25 * 1
    precision, recall = matched / (0.75 * 2 + 0.25), matched / (0.75 * 3 + 0.25)
    f = precision * recall / (METEOR_ALPHA * precision + (1 - METEOR_ALPHA) * recall)
    expected = f * (1 - METEOR_GAMMA * (1 / 3) ** METEOR_BETA)
    assert meteor_exact_stem([["the", "cat", "sat"]], [[["dog"], ["the", "cats", "sat", "down"]]]) == pytest.approx(
        expected
    )


def test_words() -> None:
    assert mteval_words('It\'s £20-25, "cheap".') == ("it's", "£20", "-", "25", ",", '"', "cheap", '"', ".")
    assert treebank_words("It's a family-friendly, 5-star pub (£20-25). It doesn't!") == (
        "it", "'s", "a", "family-friendly", "5-star", "pub", "£", "20-25", "it", "does", "n't",
    )  # fmt: skip


def test_scores_against_the_challenges_script() -> None:
    """`measure_scores.py` of tuetschek/e2e-metrics on these texts, with `-m "exact stem"` for METEOR."""
    assert e2e_scores(TEXTS, REFERENCES) == pytest.approx(OFFICIAL, abs=1e-4)


def test_edges() -> None:
    empty = e2e_scores(["", "a b"], [["a"], ["c d e"]])
    assert set(empty.values()) == {0.0}
    perfect = e2e_scores(["a b c d e", "f g h i j"], [["a b c d e"], ["f g h i j"]])
    assert perfect["rouge_l"] == pytest.approx(1)
    assert perfect["cider"] == pytest.approx(10)
    with pytest.raises(ValueError, match="one or more references"):
        e2e_scores(["a"], [[]])
