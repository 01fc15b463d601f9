"""Word alignment: which word a token belongs to, which source word a target word is aligned with, words for unknown tokens."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from core.errors import InputError
from data.tokenizer import unknown_token


class SourceWords:
    """The words of a source text, of whose tokens a model reads the first `max_length`.

    Attributes:
        words: for each token that is read the index of its word; words are separated by spaces.
    """

    def __init__(self, tokenizer: Tokenizer, text: str, max_length: int) -> None:
        self.text, self._encoding = text, _encoding(tokenizer, text)
        ends = [self._encoding.token_to_chars(i)[1] for i in range(min(len(self._encoding), max_length))]
        begins = [word.start() for word in re.finditer(r"\S+", text[: max(ends, default=0)])]
        self.words: list[int] = np.maximum(np.searchsorted(begins, ends) - 1, 0).tolist()

    def word(self, token: int) -> str:
        """The word of `token`: what the tokenizer took for one before it cut it into tokens."""
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
    sums = np.zeros((max(target) + 1, max(source) + 1))
    np.add.at(sums, (np.asarray(target)[:, None], np.asarray(source)[None]), weights[:, : len(source)])
    return [(int(s), t) for t, s in enumerate(sums.argmax(1)) if t in target]


def replace_unknown_words(
    tokenizer: Tokenizer, source: SourceWords, tokens: list[int], weights: np.ndarray, dictionary: Mapping[str, str]
) -> str:
    """The text of `tokens` with a word for every unknown token: the aligned source word, or its entry in `dictionary`.

    Jean et al. (2015, 4.1), Luong et al. (2015, 4.2). A source word is what the tokenizer takes for one (`SourceWords.word`).
    `weights`, (T, S), as in `word_alignment`; which step's they are is up to the model.
    """
    unknown, texts = unknown_token(tokenizer), _beginnings(tokenizer, tokens)
    count = min(len(source.words), weights.shape[1] - 1)  # the model may not have read all of the source
    result = ""
    for t, (before, text) in enumerate(zip(["", *texts], texts, strict=False)):
        added = text[len(before) :]
        if tokens[t] == unknown and count:
            word = source.word(int(weights[t, :count].argmax()))
            added = added[: len(added) - len(added.lstrip())] + dictionary.get(word, word)
        result += added
    return result.strip()


def read_dictionary(path: Path) -> dict[str, str]:
    """Translations of words: lines of source word, tab, target word, in UTF-8. The first translation of a word counts.

    Raises InputError, which names the line, where a line is not that.
    """
    translations: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                source, tab, target = line.rstrip("\r\n").partition("\t")
                if not tab or not source.strip() or not target.strip():
                    raise InputError(f"{path}:{number}: expected a source word, a tab and its translation.")
                translations.setdefault(source.strip(), " ".join(target.split()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}).") from None
    return translations


def _beginnings(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    """The text as far as each token; a token's own text depends on those before it (spaces, bytes of one letter)."""
    return tokenizer.decode_batch([tokens[:t] for t in range(1, len(tokens) + 1)], skip_special_tokens=True)


def _encoding(tokenizer: Tokenizer, text: str):  # type: ignore[no-untyped-def]  # tokenizers.Encoding has no stub
    tokenizer.encode_special_tokens = True
    return tokenizer.encode(text, add_special_tokens=False)
