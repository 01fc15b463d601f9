"""Tokenizer and encoded sets."""

import math
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from core.errors import InputError
from data import corpora
from data.arrow import read_split, references_by_source, token_counts
from data.encoding import EncodingConfig, unigram_perplexity, write_encoded
from data.loaders import causal_loader, translation_loader
from data.splits import write_splits
from data.tokenizer import BEGIN, END, PAD, SEPARATOR, decode, encode, load_tokenizer
from data.tokenizer_training import TokenizerConfig, save_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_splits(
        corpora.corpus_config(
            {"name": "kjv_bbe", "limit": 1500, "prompts": 0.2, "validation": 0.1, "test": 0.1}, "test"
        ),
        folder,
    )
    return folder


@pytest.fixture(scope="module")
def tokenizer(corpus: Path) -> Tokenizer:
    return train_tokenizer(read_split(corpus, "train")["source"], TokenizerConfig(vocab_size=500))


def test_decoding_restores_any_text(tokenizer: Tokenizer) -> None:
    texts = ["In the beginning", "Ünïcödé: 你好 — 🙂", "a </s> that is text, <pad> too"]
    ids = encode(tokenizer, texts)
    assert decode(tokenizer, ids) == texts
    assert not any(p in (PAD, BEGIN, END, SEPARATOR) for row in ids for p in row)


def test_a_saved_tokenizer_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path)
    assert encode(load_tokenizer(tmp_path), ["God said"]) == encode(tokenizer, ["God said"])
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path / "none")


def test_pairs_that_are_too_long_are_dropped_and_counted(corpus: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    summary = write_encoded(corpus, tokenizer, EncodingConfig(max_length=40), tmp_path)
    rows, encoded = read_split(corpus, "train"), read_split(tmp_path, "train")
    both = list(zip(encode(tokenizer, list(rows["source"])), encode(tokenizer, list(rows["target"])), strict=True))
    short = [(s, t) for s, t in both if max(len(s), len(t)) <= 40]
    assert [(r["source"], r["target"]) for r in encoded] == short
    assert summary["train"]["pairs"] == len(short)
    assert summary["train"]["dropped"] == len(both) - len(short)
    assert summary["train"]["truncated"] == 0
    assert token_counts(encoded, "target").tolist() == [len(t) for _, t in short]
    # The unigram perplexity, written out.
    counts = Counter(p for _, t in short for p in [*t, END])
    total = sum(counts.values()) + tokenizer.get_vocab_size()
    held_out = [p for r in read_split(tmp_path, "validation") for p in [*r["target"], END]]
    loss = -sum(math.log((counts[p] + 1) / total) for p in held_out) / len(held_out)
    assert summary["unigram_perplexity"] == pytest.approx(math.exp(loss))
    with pytest.raises(InputError, match=r"Raise encoding\.max_length"):
        write_encoded(corpus, tokenizer, EncodingConfig(max_length=1), tmp_path)

    batch = next(iter(translation_loader(encoded, 400)))
    assert (batch["target"][:, 0] == BEGIN).all()
    assert ((batch["source"] == END).sum(1) == 1).all()
    text = next(iter(causal_loader(encoded, 400)))
    assert ((text == SEPARATOR).sum(1) == 1).all()


def test_pairs_that_are_too_long_are_truncated_on_demand_and_counted(
    corpus: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    summary = write_encoded(corpus, tokenizer, EncodingConfig(max_length=40, overlong="truncate"), tmp_path)
    rows, encoded = read_split(corpus, "train"), read_split(tmp_path, "train")
    sides = [encode(tokenizer, list(rows[side])) for side in ("source", "target")]
    assert list(encoded["source"]) == [tokens[:40] for tokens in sides[0]]
    assert list(encoded["target"]) == [tokens[:40] for tokens in sides[1]]
    too_long = sum(max(len(s), len(t)) > 40 for s, t in zip(*sides, strict=True))
    assert (summary["train"]["dropped"], summary["train"]["truncated"]) == (0, too_long)
    assert too_long > 0


def test_perplexity_of_uniform_counts_is_their_number() -> None:
    import numpy as np

    assert unigram_perplexity(np.full(8, 1000), np.full(8, 3)) == pytest.approx(8)


def test_references_of_equal_sources_are_joined() -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"source": ["a", "b", "a"], "target": ["1", "2", "3"]})
    assert references_by_source(rows) == {"a": ["1", "3"], "b": ["2"]}
