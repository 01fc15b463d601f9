"""Rankings as a reward model reads them."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from data.comparisons.collection import read_collection, write_collection
from data.comparisons.encoding import Frame, encode_rankings
from data.comparisons.ranking import Ranking
from data.tokenizer import BEGIN, END, SEPARATOR, TokenizerConfig, decode, encode, train_tokenizer

FRAME = Frame("Judge {prompt} by {reference}:", [BEGIN], [SEPARATOR], [END])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["Judge this by that: abc"], TokenizerConfig(vocab_size=300))


def rankings() -> list[Ranking]:
    common = {"origin": "test", "reference": "ref"}
    return [
        Ranking(prompt="p1", responses=("a", "bb", "c"), ranks=(2, None, 1), labeler="ann", weight=3.0, **common),
        Ranking(prompt="p2", responses=("d </s>", "e"), ranks=(1, 1), labeler="ann", **common),
        Ranking(prompt="p3", responses=("f" * 80, "g"), ranks=(1, 2), labeler="bob", **common),
        Ranking(prompt="p4", responses=("h", "i"), ranks=(1, 2), labeler="bob", origin="test"),
    ]


def test_encoded_rankings_are_framed_texts_with_ranks_and_weights(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_collection(rankings(), tmp_path / "c")
    rows = read_collection(tmp_path / "c")
    found, kept = encode_rankings(rows, tokenizer, FRAME, max_length=60)
    assert kept.tolist() == [0, 1]  # the third is too long, the fourth has no reference
    assert [g.ranks for g in found] == [[2, 0, 1], [1, 1]]
    assert found[0].prompt[0] == BEGIN
    assert found[0].prompt[-1] == SEPARATOR
    assert decode(tokenizer, [found[0].prompt, *found[1].responses]) == ["Judge p1 by ref:", "d </s>", "e"]
    assert [r.count(END) for r in found[1].responses] == [1, 1]  # a text that spells the end token does not end there
    assert len(found[0]) == len(found[0].prompt) + sum(map(len, found[0].responses))
    assert len(encode_rankings(rows, tokenizer, FRAME)[0]) == 3


def test_weights_are_the_records_or_the_same_for_every_labeler(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_collection(rankings(), tmp_path / "c")
    rows = read_collection(tmp_path / "c")
    assert [g.weight for g in encode_rankings(rows, tokenizer, FRAME)[0]] == [1, 1, 1]
    assert [g.weight for g in encode_rankings(rows, tokenizer, FRAME, "record")[0]] == pytest.approx([1.8, 0.6, 0.6])
    by_labeler = [g.weight for g in encode_rankings(rows, tokenizer, FRAME, "labeler")[0]]
    assert by_labeler == pytest.approx([0.75, 0.75, 1.5])


def test_a_frame_that_needs_a_reference_says_so(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="needs a reference"):
        FRAME.prompts(tokenizer, [{"prompt": "p"}])
    plain = Frame("{prompt}", [], [], [END])
    assert plain.prompts(tokenizer, [{"prompt": "p"}]) == encode(tokenizer, ["p"])
    assert Frame(**plain.as_json()) == plain
