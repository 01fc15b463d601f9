"""Texts as words and n-grams, as the script of the E2E NLG Challenge counts them.

Dušek, Novikova and Rieser (2020), github.com/tuetschek/e2e-metrics.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

Words = Sequence[str]
References = Sequence[Sequence[Words]]  # for each text one or more references
Ngram = tuple[str, ...]

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


def ngrams(words: Words, longest: int) -> Counter[Ngram]:
    """Counts of all n-grams of 1 to `longest` words."""
    return Counter(tuple(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1))
