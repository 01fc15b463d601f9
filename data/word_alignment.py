"""Tokens as words: which word a token belongs to, word alignments, and words for tokens that stand for unknown ones."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from core.errors import InputError
from data.tokenizer import unknown_token


class Source:
    """A source text, of whose tokens a model reads the first `most`, as words.

    Attributes:
        words: for each token that is read the index of its word, words being what stands between spaces.
    """

    def __init__(self, tokenizer: Tokenizer, text: str, most: int) -> None:
        self.text, self._encoding = text, _encoding(tokenizer, text)
        ends = [self._encoding.token_to_chars(i)[1] for i in range(min(len(self._encoding), most))]
        begins = [word.start() for word in re.finditer(r"\S+", text[: max(ends, default=0)])]
        self.words: list[int] = np.maximum(np.searchsorted(begins, ends) - 1, 0).tolist()

    def word(self, token: int) -> str:
        """What the tokenizer took for a word before it cut it into tokens: the one that `token` is of."""
        start, end = self._encoding.word_to_chars(self._encoding.token_to_word(token))
        return self.text[start:end].strip()


def target_words(tokenizer: Tokenizer, tokens: list[int]) -> list[int]:
    """For each of `tokens` the index of its word in their decoded text."""
    return [max(len(text.split()) - 1, 0) for text in _beginnings(tokenizer, tokens)]


def word_alignment(weights: np.ndarray, source: list[int], target: list[int]) -> list[tuple[int, int]]:
    """(source word, target word) for each target word: the source word with the largest sum of weights.

    Args:
        weights: (T, S), the weights of each target token over the source tokens and the end token, which is no word.
        source: (S - 1,) and target: (T,), the word of each token.
    """
    if not source or not target:
        return []
    words = np.zeros((max(target) + 1, max(source) + 1))
    np.add.at(words, (np.asarray(target)[:, None], np.asarray(source)[None]), weights[:, : len(source)])
    return [(int(s), t) for t, s in enumerate(words.argmax(1)) if t in target]


def with_known_words(
    tokenizer: Tokenizer, source: Source, tokens: list[int], weights: np.ndarray, dictionary: Mapping[str, str]
) -> str:
    """The text of `tokens` with a word for every unknown token: the aligned source word, or its entry in `dictionary`.

    Jean et al. (2015, 4.1), Luong et al. (2015, 4.2). A source word is what the tokenizer takes for one (`Source.word`).
    `weights`, (T, S), as in `word_alignment`; which step's they are is up to the model.
    """
    unknown, texts = unknown_token(tokenizer), _beginnings(tokenizer, tokens)
    read = min(len(source.words), weights.shape[1] - 1)  # the model may not have read all of the source
    written = ""
    for t, (before, text) in enumerate(zip(["", *texts], texts, strict=False)):
        added = text[len(before) :]
        if tokens[t] == unknown and read:
            word = source.word(int(weights[t, :read].argmax()))
            added = added[: len(added) - len(added.lstrip())] + dictionary.get(word, word)
        written += added
    return written.strip()


def read_dictionary(path: Path) -> dict[str, str]:
    """Translations of words: lines of source word, tab, target word, in UTF-8. Of a word given twice the first counts.

    Raises InputError, which names the line, where a line is not that.
    """
    found: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                source, tab, target = line.rstrip("\r\n").partition("\t")
                if not tab or not source.strip() or not target.strip():
                    raise InputError(f"{path}:{number}: expected a source word, a tab and its translation.")
                found.setdefault(source.strip(), " ".join(target.split()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}).") from None
    return found


def _beginnings(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    """The text as far as each token; a token's own text depends on those before it (spaces, bytes of one letter)."""
    return tokenizer.decode_batch([tokens[:t] for t in range(1, len(tokens) + 1)], skip_special_tokens=True)


def _encoding(tokenizer: Tokenizer, text: str):  # type: ignore[no-untyped-def]  # tokenizers.Encoding has no stub
    tokenizer.encode_special_tokens = True
    return tokenizer.encode(text, add_special_tokens=False)
