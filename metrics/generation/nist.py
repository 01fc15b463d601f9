"""NIST (Doddington 2002), as the script of the E2E NLG Challenge computes it."""

import math
from collections import Counter
from collections.abc import Sequence

from metrics.generation.words import Ngram, References, Words, ngrams


def nist(texts: Sequence[Words], references: References, longest: int = 5) -> float:
    """NIST (Doddington 2002): matched n-grams weighed by their information, with a penalty for short texts.

    Info(w_1 .. w_n) = log2(count(w_1 .. w_(n-1)) / count(w_1 .. w_n)) over all references. As in the script's mteval-v13a, a match is
    clipped at the n-gram's largest count in one reference, and the length compared with is that of all references over the mean
    number of references of a text.
    """
    reference_ngrams = [[ngrams(words, longest) for words in group] for group in references]
    counts: Counter[Ngram] = Counter()
    for group in reference_ngrams:
        for reference in group:
            counts.update(reference)
    counts[()] = total = sum(len(words) for group in references for words in group)
    information, candidates = [0.0] * longest, [0] * longest
    for words, group in zip(texts, reference_ngrams, strict=True):
        for ngram, count in ngrams(words, longest).items():
            candidates[len(ngram) - 1] += count
            if matched := min(count, max(reference[ngram] for reference in group)):
                information[len(ngram) - 1] += matched * math.log2(counts[ngram[:-1]] / counts[ngram])
    ratio = candidates[0] * sum(map(len, references)) / len(references) / total
    if ratio == 0:
        return 0.0
    beta = math.log(0.5) / math.log(1.5) ** 2
    penalty = math.exp(beta * math.log(min(ratio, 1.0)) ** 2)
    return penalty * sum(i / max(c, 1) for i, c in zip(information, candidates, strict=True))
