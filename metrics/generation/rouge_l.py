"""ROUGE-L (Lin 2004), as the script of the E2E NLG Challenge computes it."""

from collections.abc import Sequence

from metrics.generation.words import References, Words

BETA = 1.2  # weight of recall, as the MS-COCO script sets it


def rouge_l(texts: Sequence[Words], references: References) -> float:
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
    """Its length. Bits of `row` are the positions in `b`; a zero is a position where the subsequence grew (Hyyrö 2004)."""
    positions: dict[str, int] = {}
    for i, word in enumerate(b):
        positions[word] = positions.get(word, 0) | 1 << i
    all_bits = (1 << len(b)) - 1
    row = all_bits
    for word in a:
        matched = row & positions.get(word, 0)
        row = ((row + matched) | (row - matched)) & all_bits
    return len(b) - row.bit_count()
