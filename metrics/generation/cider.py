"""CIDEr-D (Vedantam et al. 2015), as the script of the E2E NLG Challenge computes it."""

import math
from collections import Counter
from collections.abc import Sequence

from metrics.generation.words import Ngram, References, Words, ngrams

SIGMA = 6.0  # of the penalty for a different length


def cider(texts: Sequence[Words], references: References, longest: int = 4) -> float:
    """CIDEr-D (Vedantam et al. 2015): 10 times the mean clipped cosine of tf-idf n-grams, over n and references, with a length penalty.

    idf comes from the references of this corpus: log(texts / texts with the n-gram in a reference). As in the MS-COCO script, lengths
    are counted in bigrams, and a single text has no idf: its score is 0.
    """
    reference_ngrams = [[ngrams(words, longest) for words in group] for group in references]
    documents = Counter(ngram for group in reference_ngrams for ngram in set().union(*group))
    log_texts = math.log(len(texts))

    def vector(counts: Counter[Ngram]) -> tuple[dict[Ngram, float], list[float]]:
        weights = {g: count * (log_texts - math.log(max(documents[g], 1))) for g, count in counts.items()}
        squares = [0.0] * longest
        for ngram, weight in weights.items():
            squares[len(ngram) - 1] += weight**2
        return weights, [math.sqrt(s) for s in squares]

    total = 0.0
    for words, group_words, group in zip(texts, references, reference_ngrams, strict=True):
        weights, text_norms = vector(ngrams(words, longest))
        similarity = 0.0
        for reference, counts in zip(group_words, group, strict=True):
            reference_weights, norms = vector(counts)
            products = [0.0] * longest
            for ngram, weight in weights.items():
                if other := reference_weights.get(ngram):
                    products[len(ngram) - 1] += min(weight, other) * other
            cosines = sum(p / (a * b) if a and b else 0.0 for p, a, b in zip(products, text_norms, norms, strict=True))
            difference = max(len(words) - 1, 0) - max(len(reference) - 1, 0)
            similarity += cosines / longest * math.exp(-(difference**2) / (2 * SIGMA**2))
        total += 10 * similarity / len(group)
    return total / len(texts)
