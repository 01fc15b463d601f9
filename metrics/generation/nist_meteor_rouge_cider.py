"""The metrics of the E2E NLG Challenge for texts with several references, without Java or Perl: NIST, METEOR, ROUGE-L and CIDEr.

They follow the challenge's script (Dušek, Novikova and Rieser 2020, github.com/tuetschek/e2e-metrics) in what it counts; BLEU is
sacreBLEU's with the same tokens and smoothing (`metrics.bleu_chrf`). `docs/how-to/prefix-tuning.md` has the measured differences. METEOR matches
equal words and equal stems; the script's further stages, WordNet synonyms and a table of paraphrases, are left out.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import snowballstemmer

Words = Sequence[str]
References = Sequence[Sequence[str]]  # for each text one or more references

BETA = 1.2  # weight of recall in ROUGE-L, as the MS-COCO script sets it
SIGMA = 6.0  # of CIDEr-D's penalty for a different length
# METEOR 1.5 for English, task "rank": the balance of precision and recall, fragmentation, and the weight of content words.
METEOR_ALPHA, METEOR_BETA, METEOR_GAMMA, METEOR_DELTA = 0.85, 0.2, 0.6, 0.75
STAGE_WEIGHTS = (1.0, 0.6)  # equal words, equal stems
BEAM = 40  # alignments that METEOR keeps open
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
_PUNCTUATION = frozenset(
    [
        "''",
        "'",
        "``",
        "`",
        '"',
        "(",
        ")",
        "{",
        "}",
        ".",
        "?",
        "!",
        ",",
        ":",
        "-",
        "--",
        "...",
        ";",
        "…",
        "“",
        "”",
        "‘",
        "’",
    ]
)
_STEMMER = snowballstemmer.stemmer("english")


def scores(texts: Sequence[str], references: References) -> dict[str, float]:
    """All of this file's metrics of a corpus, as the script prints them: METEOR and ROUGE-L up to 1, CIDEr up to 10."""
    if len(texts) != len(references) or not texts or not all(references):
        raise ValueError("each text needs one or more references")
    mteval = [mteval_words(text) for text in texts], [[mteval_words(r) for r in group] for group in references]
    treebank = [treebank_words(text) for text in texts], [[treebank_words(r) for r in group] for group in references]
    return {
        "nist": nist(*mteval),
        "meteor_exact_stem": meteor(*treebank),
        "rouge_l": rouge_l(*treebank),
        "cider": cider(*treebank),
    }


@lru_cache(maxsize=1 << 16)
def mteval_words(text: str) -> tuple[str, ...]:
    """Lower-cased words as mteval-v13a cuts them: punctuation alone, but for periods and commas inside numbers."""
    text = f" {text.lower()} "
    text = re.sub(r"([{-~\[-` -&(-+:-@/])", r" \1 ", text)
    text = re.sub(r"([^0-9])([.,])", r"\1 \2 ", text)
    text = re.sub(r"([.,])([^0-9])", r" \1 \2", text)
    return tuple(re.sub(r"([0-9])(-)", r"\1 \2 ", text).split())


_TREEBANK = re.compile(
    r"""[a-z]+(?=n['’]t\b) | n['’]t\b | ['’](?:s|re|ve|ll|d|m)\b   # contractions are two words
      | (?:[a-z]\.){2,}                                        # u.s.
      | \d+(?:[.,:]\d+)*(?:[-/]\w+(?:[.,]\d+)*)*\w*            # 20-25, 5-star, 5.50, 1,000
      | \w+(?:[-.@&/]\w+)*                                     # words, with their hyphens
      | \.\.\. | -- | \S""",
    re.VERBOSE,
)


@lru_cache(maxsize=1 << 16)
def treebank_words(text: str) -> tuple[str, ...]:
    """Lower-cased words in the manner of the Penn Treebank, without punctuation, as the MS-COCO script prepares them."""
    return tuple(word for word in _TREEBANK.findall(text.lower()) if word not in _PUNCTUATION)


def ngrams(words: Words, longest: int) -> Counter[tuple[str, ...]]:
    """Counts of all n-grams of 1 to `longest` words."""
    return Counter(tuple(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1))


def nist(texts: Sequence[Words], references: Sequence[Sequence[Words]], longest: int = 5) -> float:
    """NIST (Doddington 2002): matched n-grams weighed by their information, with a penalty for short texts.

    Info(w_1 .. w_n) = log2(count(w_1 .. w_(n-1)) / count(w_1 .. w_n)) over all references. As in the script's mteval-v13a, a match is
    clipped at the n-gram's largest count in one reference, and the length compared with is that of all references over the mean
    number of references of a text.
    """
    of_references = [[ngrams(words, longest) for words in group] for group in references]
    counts: Counter[tuple[str, ...]] = Counter()
    for group in of_references:
        for found in group:
            counts.update(found)
    counts[()] = total = sum(len(words) for group in references for words in group)
    information, candidates = [0.0] * longest, [0] * longest
    for words, group in zip(texts, of_references, strict=True):
        for ngram, count in ngrams(words, longest).items():
            candidates[len(ngram) - 1] += count
            if matched := min(count, max(found[ngram] for found in group)):
                information[len(ngram) - 1] += matched * math.log2(counts[ngram[:-1]] / counts[ngram])
    ratio = candidates[0] * sum(map(len, references)) / len(references) / total
    if ratio == 0:
        return 0.0
    beta = math.log(0.5) / math.log(1.5) ** 2
    penalty = math.exp(beta * math.log(min(ratio, 1.0)) ** 2)
    return penalty * sum(i / max(c, 1) for i, c in zip(information, candidates, strict=True))


def rouge_l(texts: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """ROUGE-L (Lin 2004), mean over texts: F of the longest common subsequence, best precision and best recall over the references."""
    total = 0.0
    for words, group in zip(texts, references, strict=True):
        common = [longest_common_subsequence(words, reference) for reference in group]
        precision = max(common) / max(len(words), 1)
        recall = max(c / max(len(reference), 1) for c, reference in zip(common, group, strict=True))
        if precision and recall:
            total += (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
    return total / len(texts)


def longest_common_subsequence(a: Words, b: Words) -> int:
    """Its length. Bits of `row` are the places of `b`; a zero is a place where the subsequence grew (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(b):
        places[word] = places.get(word, 0) | 1 << i
    everything = (1 << len(b)) - 1
    row = everything
    for word in a:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & everything
    return len(b) - row.bit_count()


def cider(texts: Sequence[Words], references: Sequence[Sequence[Words]], longest: int = 4) -> float:
    """CIDEr-D (Vedantam et al. 2015): 10 times the mean clipped cosine of tf-idf n-grams, over n and references, with a length penalty.

    idf comes from the references of this corpus: log(texts / texts with the n-gram in a reference). As in the MS-COCO script, lengths
    are counted in bigrams, and a single text has no idf: its score is 0.
    """
    of_references = [[ngrams(words, longest) for words in group] for group in references]
    documents = Counter(ngram for group in of_references for ngram in set().union(*group))
    everything = math.log(len(texts))

    def vector(found: Counter[tuple[str, ...]]) -> tuple[dict[tuple[str, ...], float], list[float]]:
        weights = {g: count * (everything - math.log(max(documents[g], 1))) for g, count in found.items()}
        squares = [0.0] * longest
        for ngram, weight in weights.items():
            squares[len(ngram) - 1] += weight**2
        return weights, [math.sqrt(s) for s in squares]

    total = 0.0
    for words, group_words, group in zip(texts, references, of_references, strict=True):
        mine, my_norms = vector(ngrams(words, longest))
        similarity = 0.0
        for reference, found in zip(group_words, group, strict=True):
            theirs, norms = vector(found)
            products = [0.0] * longest
            for ngram, weight in mine.items():
                if other := theirs.get(ngram):
                    products[len(ngram) - 1] += min(weight, other) * other
            cosines = sum(p / (a * b) if a and b else 0.0 for p, a, b in zip(products, my_norms, norms, strict=True))
            difference = max(len(words) - 1, 0) - max(len(reference) - 1, 0)
            similarity += cosines / longest * math.exp(-(difference**2) / (2 * SIGMA**2))
        total += 10 * similarity / len(group)
    return total / len(texts)


# A partial alignment: (matches, -chunks, -distance), used places of the reference as bits, the place last matched (-2: none), and
# the pairs (place in the text, place in the reference, stage).
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


def meteor(texts: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """METEOR 1.5 of a corpus: each text with its best reference, counts summed; matches of equal words and equal stems."""
    best = []
    for words, group in zip(texts, references, strict=True):
        prepared = _meteor_words(words)
        best.append(max((align(prepared, _meteor_words(reference)) for reference in group), key=Matches.score))
    lengths, matched = np.sum([b.lengths for b in best], 0), np.sum([b.matched for b in best], 0)
    return Matches(lengths, matched, sum(b.chunks for b in best), sum(b.words for b in best)).score()


def _meteor_words(words: Words) -> list[str]:
    """METEOR's own words: hyphenated ones and clitics are taken apart."""
    text = re.sub(r"(\w)-(?=\w)", r"\1 ", " ".join(words))
    return re.findall(r"(?<=[^\W\d_])'[^\W\d_]+|\d+(?:[.,]\d+)*|[^\W_]+|[^\w\s]", text)


def align(text: Words, reference: Words) -> Matches:
    """The alignment of most matched words, then fewest chunks, then least distance (METEOR 1.5's order), by beam search over the text."""
    places: dict[tuple[int, str], list[int]] = {}
    for j, word in enumerate(reference):
        places.setdefault((0, word), []).append(j)
        places.setdefault((1, _stem(word)), []).append(j)
    states: list[State] = [((0, 0, 0), 0, -2, ())]
    for i, word in enumerate(text):
        equal = places.get((0, word), [])
        options = [(j, 0) for j in equal] + [(j, 1) for j in places.get((1, _stem(word)), []) if j not in equal]
        grown: dict[tuple[int, int], State] = {}
        for (count, chunks, distance), used, last, pairs in states:
            candidates = [((count, chunks, distance), used, -2, pairs)]
            for j, stage in options:
                if not used >> j & 1:
                    key = (count + 1, chunks - (j != last + 1 or last < 0), distance - abs(i - j))
                    candidates.append((key, used | 1 << j, j, (*pairs, (i, j, stage))))
            for state in candidates:
                place = (state[1], state[2])
                if place not in grown or state[0] > grown[place][0]:
                    grown[place] = state
        states = sorted(grown.values(), key=lambda state: state[0], reverse=True)[:BEAM]
    (_, chunks, _), _, _, pairs = states[0]
    lengths, matched = np.zeros((2, 2)), np.zeros((2, 2))
    for side, words in enumerate((text, reference)):
        for word in words:
            lengths[side, int(word in FUNCTION_WORDS)] += 1
        for pair in pairs:
            matched[side, int(words[pair[side]] in FUNCTION_WORDS)] += STAGE_WEIGHTS[pair[2]]
    whole = chunks == -1 and len(pairs) == len(text) == len(
        reference
    )  # the same text: not fragmented at all, as in METEOR 1.5
    return Matches(lengths, matched, 0 if whole else -chunks, len(pairs))


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    return str(_STEMMER.stemWord(word))
