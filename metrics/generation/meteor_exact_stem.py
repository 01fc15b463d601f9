"""METEOR 1.5 (Denkowski and Lavie 2014) without its synonyms and paraphrases: equal words and equal stems match.

The full metric's further stages, WordNet synonyms and a table of paraphrases, are left out. The result is named `meteor_exact_stem`,
since it is lower than METEOR's. It is that of the E2E NLG Challenge's script with `-m "exact stem"`.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import snowballstemmer

from metrics.generation.words import References, Words

# METEOR 1.5 for English, task "rank": the balance of precision and recall, fragmentation, and the weight of content words.
METEOR_ALPHA, METEOR_BETA, METEOR_GAMMA, METEOR_DELTA = 0.85, 0.2, 0.6, 0.75
STAGE_WEIGHTS = (1.0, 0.6)  # equal words, equal stems
BEAM_SIZE = 40  # alignments that METEOR keeps open
# Words of a relative frequency above .001 in running text weigh less in METEOR (Denkowski and Lavie 2011, section 2).
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\S+",
        """
    the of to and a in that for is on 's it with was as said at he by be from have has are his but an this not i will they who their had
    we which were been more or s its would about new one after you also up when there than all out her people she year two can if last
    first over other into some what so no time years could 't ' ’
    """,
    )
)  # METEOR's list for English has further punctuation, which the words here are without
_STEMMER = snowballstemmer.stemmer("english")

# A partial alignment: (matches, -chunks, -distance), used positions of the reference as bits, the position last matched (-2:
# none), and the pairs (position in the text, position in the reference, stage).
State = tuple[tuple[int, int, int], int, int, tuple[tuple[int, int, int], ...]]


class Matches(NamedTuple):
    """What METEOR counts of one text and one reference."""

    lengths: np.ndarray  # (2 sides, 2): content and function words of the text and the reference
    matched: np.ndarray  # (2 sides, 2 kinds): the matched ones, weighed by their stage
    chunks: int  # runs of matches that are contiguous on both sides
    words: int  # matched words, of one side

    def score(self) -> float:
        """(1 - penalty) F: F of the weighed precision and recall (Denkowski and Lavie 2014)."""
        weights = np.array([METEOR_DELTA, 1 - METEOR_DELTA])
        sizes, hits = self.lengths @ weights, self.matched @ weights
        if not self.words:
            return 0.0
        precision, recall = hits / sizes
        f = precision * recall / (METEOR_ALPHA * precision + (1 - METEOR_ALPHA) * recall)
        return float(f * (1 - METEOR_GAMMA * (self.chunks / self.words) ** METEOR_BETA))


def meteor_exact_stem(texts: Sequence[Words], references: References) -> float:
    """METEOR 1.5 of a corpus: each text with its best reference, counts summed; matches of equal words and equal stems."""
    best = []
    for words, group in zip(texts, references, strict=True):
        text = _meteor_words(words)
        best.append(max((align(text, _meteor_words(reference)) for reference in group), key=Matches.score))
    lengths, matched = np.sum([b.lengths for b in best], 0), np.sum([b.matched for b in best], 0)
    return Matches(lengths, matched, sum(b.chunks for b in best), sum(b.words for b in best)).score()


def _meteor_words(words: Words) -> list[str]:
    """METEOR's own words: hyphenated ones and clitics are taken apart."""
    text = re.sub(r"(\w)-(?=\w)", r"\1 ", " ".join(words))
    return re.findall(r"(?<=[^\W\d_])'[^\W\d_]+|\d+(?:[.,]\d+)*|[^\W_]+|[^\w\s]", text)


def align(text: Words, reference: Words) -> Matches:
    """The alignment of most matched words, then fewest chunks, then least distance (METEOR 1.5's order), by beam search over the text."""
    positions: dict[tuple[int, str], list[int]] = {}
    for j, word in enumerate(reference):
        positions.setdefault((0, word), []).append(j)
        positions.setdefault((1, _stem(word)), []).append(j)
    states: list[State] = [((0, 0, 0), 0, -2, ())]
    for i, word in enumerate(text):
        equal = positions.get((0, word), [])
        options = [(j, 0) for j in equal] + [(j, 1) for j in positions.get((1, _stem(word)), []) if j not in equal]
        grown: dict[tuple[int, int], State] = {}
        for (count, chunks, distance), used, last, pairs in states:
            candidates = [((count, chunks, distance), used, -2, pairs)]
            for j, stage in options:
                if not used >> j & 1:
                    key = (count + 1, chunks - (j != last + 1 or last < 0), distance - abs(i - j))
                    candidates.append((key, used | 1 << j, j, (*pairs, (i, j, stage))))
            for state in candidates:
                rest = (state[1], state[2])
                if rest not in grown or state[0] > grown[rest][0]:
                    grown[rest] = state
        states = sorted(grown.values(), key=lambda state: state[0], reverse=True)[:BEAM_SIZE]
    (_, chunks, _), _, _, pairs = states[0]
    lengths, matched = np.zeros((2, 2)), np.zeros((2, 2))
    for side, words in enumerate((text, reference)):
        for word in words:
            lengths[side, int(word in FUNCTION_WORDS)] += 1
        for pair in pairs:
            matched[side, int(words[pair[side]] in FUNCTION_WORDS)] += STAGE_WEIGHTS[pair[2]]
    # The same text is not fragmented at all, as in METEOR 1.5.
    is_same = chunks == -1 and len(pairs) == len(text) == len(reference)
    return Matches(lengths, matched, 0 if is_same else -chunks, len(pairs))


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    return str(_STEMMER.stemWord(word))
