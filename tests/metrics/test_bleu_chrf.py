"""Both conventions of BLEU, each beside numbers counted by hand."""

import math

import pytest

from metrics.bleu_chrf import bleu_tokenizer, corpus_scores, tokenised_bleu

REFERENCE = "Ein Mann fährt Rad (z.B. \u201eschnell\u201c), oder?"


def test_tokenised_bleu_sees_neither_case_nor_typography() -> None:
    text = 'ein mann fährt rad ( z.b. "schnell" ), oder ?'
    assert tokenised_bleu([text], [[REFERENCE]], "de")["tokenised_bleu"] == pytest.approx(100)
    assert corpus_scores([text], [[REFERENCE]])["bleu"] < 60


def test_tokenised_bleu_is_that_of_multi_bleu() -> None:
    """Hypothesis: the cat sat on a mat . - reference: the cat sat on the mat . (7 tokens each, no brevity penalty)."""
    scores = tokenised_bleu(["The cat sat on a mat."], [["the cat sat on the mat."]], "en")
    # matches of 1..4-grams: 6 of 7, 4 of 6, 2 of 5 (the cat sat, cat sat on), 1 of 4
    assert scores["tokenised_bleu"] == pytest.approx(
        100 * math.exp(sum(map(math.log, (6 / 7, 4 / 6, 2 / 5, 1 / 4))) / 4)
    )
    short = tokenised_bleu(["the cat sat on"], [["The cat sat on the mat."]], "en")["tokenised_bleu"]
    assert short == pytest.approx(100 * math.exp(1 - 7 / 4))
    assert tokenised_bleu(["the dog"], [["The cat sat on the mat."]], "en")["tokenised_bleu"] == 0  # not smoothed


def test_the_language_decides_where_words_end() -> None:
    text, reference = ["L'homme voit un chien noir."], [["Un homme voit un chien noir."]]
    matches = {"fr": (6 / 7, 5 / 6, 4 / 5, 3 / 4), "en": (5 / 7, 4 / 6, 3 / 5, 2 / 4)}  # l' homme, and l 'homme
    for language, precisions in matches.items():
        expected = 100 * math.exp(sum(map(math.log, precisions)) / 4)
        assert tokenised_bleu(text, reference, language)["tokenised_bleu"] == pytest.approx(expected)


def test_signatures_tell_the_conventions_apart() -> None:
    cased, lower = corpus_scores(["a"], [["a"]]), tokenised_bleu(["a"], [["a", "b"]], "de")
    assert "case:mixed" in cased["bleu_signature"]
    assert "tok:13a" in cased["bleu_signature"]
    assert "case:lc" in lower["tokenised_bleu_signature"]
    assert "tok:norm-moses-de-sacremoses-" in lower["tokenised_bleu_signature"]
    assert "nrefs:2" in lower["tokenised_bleu_signature"]


@pytest.mark.parametrize(
    ("language", "text", "reference", "tokenizer"),
    [
        ("zh", "一个男人骑着自行车。", "一个男人骑自行车。", "zh"),
        ("zh-TW", "一個男人騎著自行車。", "一個男人騎自行車。", "zh"),
        ("th", "ผู้ชายขี่จักรยาน", "ผู้ชายคนหนึ่งขี่จักรยาน", "char"),
        ("ja", "男の人が自転車に乗っている。", "男性が自転車に乗っている。", None),  # MeCab where it is installed
    ],
)
def test_a_language_without_spaces_is_scored_by_its_own_words_or_characters(
    language: str, text: str, reference: str, tokenizer: str | None
) -> None:
    scores = corpus_scores([text], [[reference]], language)
    assert 20 < scores["bleu"] < 100
    assert f"tok:{tokenizer or bleu_tokenizer('ja')}" in scores["bleu_signature"]
    assert bleu_tokenizer(language) != "13a"
    assert corpus_scores([text], [[reference]])["bleu"] < 1e-6, "13a takes the sentence for one word"


def test_languages_with_spaces_keep_the_published_tokenizer() -> None:
    assert {bleu_tokenizer(language) for language in ("en", "de", "fr", "ru", "tr")} == {"13a"}
    assert tokenised_bleu(["男"], [["男"]], "ja") == tokenised_bleu(["男"], [["男"]], "zh-TW") == {}
