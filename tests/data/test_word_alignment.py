"""Words of tokens, and a vocabulary of words with its unknown ones."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer

from core.errors import InputError
from data.tokenizer import SPECIAL, decode, encode, load_tokenizer, unknown_token
from data.tokenizer_training import TokenizerConfig, save_tokenizer, train_tokenizer
from data.word_alignment import SourceWords, read_dictionary, replace_unknown_words, target_words, word_alignment

TEXTS = ["The dog runs (fast), it's a well-known dog.", "A cat sleeps.", "The dog sleeps."]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("words")
    save_tokenizer(train_tokenizer(TEXTS, TokenizerConfig(kind="words", vocab_size=40, min_frequency=1)), folder)
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_tokenizer(TEXTS, TokenizerConfig(vocab_size=280))


def test_a_vocabulary_of_words_restores_known_text_and_shows_unknown_words(words: Tokenizer) -> None:
    assert [words.token_to_id(s) for s in SPECIAL] == [0, 1, 2, 3]
    assert decode(words, encode(words, TEXTS)) == TEXTS
    (tokens,) = encode(words, ["The zebra runs."])
    assert tokens.count(unknown_token(words)) == 1
    assert decode(words, [tokens]) == ["The <unk> runs."]
    assert not set(encode(words, ["<s> </s> <pad>"])[0]) & {0, 1, 2, 3}


def test_the_most_frequent_words_are_kept() -> None:
    small = train_tokenizer(TEXTS, TokenizerConfig(kind="words", vocab_size=8, min_frequency=1))
    assert small.get_vocab_size() == 8
    assert {small.id_to_token(i) for i in (5, 6, 7)} == {".", "▁dog", "▁The"}
    assert train_tokenizer(TEXTS, TokenizerConfig(kind="words", vocab_size=99, min_frequency=3)).get_vocab_size() == 7


def test_bytes_need_their_room_and_have_no_unknown_token(bpe: Tokenizer) -> None:
    with pytest.raises(ValidationError, match="260 or more"):
        TokenizerConfig(vocab_size=100)
    assert unknown_token(bpe) is None


def test_tokens_know_their_word(bpe: Tokenizer, words: Tokenizer) -> None:
    for text in ("The dog 你好 sleeps", "ä b"):
        (tokens,) = encode(bpe, [text])
        found = SourceWords(bpe, text, 99).words
        assert len(found) == len(tokens)
        assert found == sorted(found)
        assert set(found) == set(range(len(text.split())))
        assert target_words(bpe, tokens) == found
        assert SourceWords(bpe, text, 5).words == found[:5]
    assert SourceWords(words, "The dog sleeps.", 99).words == [0, 1, 2, 2]
    assert SourceWords(words, "", 99).words == []


def test_words_are_aligned_by_the_weights_of_all_their_tokens() -> None:
    weights = np.array([[0.3, 0.25, 0.25, 0.2], [0.9, 0.0, 0.0, 0.1], [0.1, 0.1, 0.1, 0.7]])
    assert word_alignment(weights[:1], [0, 1, 1], [0]) == [(1, 0)]  # .25 + .25 against .3
    assert word_alignment(weights, [0, 1, 1], [0, 0, 1]) == [(0, 0), (1, 1)]  # the end token's .7 is no word's
    assert word_alignment(np.zeros((0, 1)), [], []) == []


def test_an_unknown_token_becomes_the_aligned_word(words: Tokenizer) -> None:
    text = "Das Okapi-Tier (Nashorn) rennt."  # Das Okapi - Tier ( Nashorn ) rennt .
    (tokens,) = encode(words, ["The zebra runs (quick), quick."])
    assert decode(words, [tokens]) == ["The <unk> runs ( <unk>), <unk>."]
    unknown = [t for t, p in enumerate(tokens) if p == unknown_token(words)]
    weights = np.zeros((len(tokens), len(words.encode(text, add_special_tokens=False)) + 1))
    weights[:, -1] = 0.9  # the end token is no word, however much of the weight it has
    for t, name in zip(unknown, ("▁Okapi", "Nashorn", "▁rennt"), strict=True):
        where = words.encode(text, add_special_tokens=False).offsets
        s = next(i for i, (a, b) in enumerate(where) if text[a:b].strip() == name.strip("▁"))
        weights[t, s] = 0.1
    source = SourceWords(words, text, 99)
    assert replace_unknown_words(words, source, tokens, weights, {}) == "The Okapi runs ( Nashorn), rennt."
    assert replace_unknown_words(words, source, tokens, weights, {"Okapi": "okapi", "x": "y"}).startswith(
        "The okapi runs"
    )
    cut = weights[:, [*range(3), -1]]  # the model read three tokens of the source
    assert replace_unknown_words(words, source, tokens, cut, {}) == "The Okapi runs ( Das), Das."
    assert (
        replace_unknown_words(words, SourceWords(words, text, 3), tokens, weights, {}) == "The Okapi runs ( Das), Das."
    )
    assert (
        replace_unknown_words(words, SourceWords(words, "", 99), tokens, weights[:, -1:], {})
        == "The <unk> runs ( <unk>), <unk>."
    )


def test_a_dictionary_names_its_wrong_line(tmp_path: Path) -> None:
    file = tmp_path / "dictionary.tsv"
    file.write_text("Okapi\tokapi\nOkapi\tother\nHaus\t a  house \n")
    assert read_dictionary(file) == {"Okapi": "okapi", "Haus": "a house"}
    file.write_text("Okapi\tokapi\nHaus house\n")
    with pytest.raises(InputError, match=r"dictionary\.tsv:2: expected a source word, a tab"):
        read_dictionary(file)
    file.write_bytes(b"\xff\t\xff\n")
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        read_dictionary(file)


def test_a_byte_order_mark_hides_no_word_of_a_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("Hund\tdog\n", encoding="utf-8-sig")
    assert read_dictionary(path) == {"Hund": "dog"}
