"""Rankings as a reward model reads them."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from data.comparisons.collection import read_collection
from data.comparisons.encoding import Frame, encode_rankings
from data.comparisons.importing.appending import append_rankings
from data.comparisons.ranking import Ranking
from data.tokenizer import BEGIN, END, SEPARATOR, decode, encode
from data.tokenizer_training import TokenizerConfig, train_tokenizer

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
    append_rankings(rankings(), tmp_path / "c")
    rows = read_collection(tmp_path / "c")
    encoded = encode_rankings(rows, tokenizer, FRAME, max_length=60)
    assert encoded.indices.tolist() == [0, 1]  # the third is too long, the fourth has no reference
    assert (encoded.dropped, encoded.without_reference, encoded.truncated) == (1, 1, 0)
    first, second = encoded.rankings
    assert [first.ranks, second.ranks] == [[2, 0, 1], [1, 1]]
    assert first.prompt[0] == BEGIN
    assert first.prompt[-1] == SEPARATOR
    assert decode(tokenizer, [first.prompt, *second.responses]) == ["Judge p1 by ref:", "d </s>", "e"]
    assert [r.count(END) for r in second.responses] == [1, 1]  # a text that spells the end token does not end there
    assert len(first) == len(first.prompt) + sum(map(len, first.responses))
    assert len(encode_rankings(rows, tokenizer, FRAME).rankings) == 3


def test_responses_that_are_too_long_are_cut_before_the_end_token(tokenizer: Tokenizer, tmp_path: Path) -> None:
    append_rankings(rankings(), tmp_path / "c")
    rows = read_collection(tmp_path / "c")
    whole = encode_rankings(rows, tokenizer, FRAME)
    encoded = encode_rankings(rows, tokenizer, FRAME, max_length=60, overlong="truncate")
    assert encoded.indices.tolist() == [0, 1, 2]
    assert (encoded.dropped, encoded.without_reference, encoded.truncated) == (0, 1, 1)
    assert encoded.rankings[:2] == whole.rankings[:2]
    (long, short), third = whole.rankings[2].responses, encoded.rankings[2]
    assert third.prompt == whole.rankings[2].prompt
    assert third.responses == [[*long[: 59 - len(third.prompt)], END], short]
    # A prompt is never cut: where it leaves no room for a response, the ranking is dropped.
    room_for_one = len(third.prompt) + 2
    counts = [
        encode_rankings(rows, tokenizer, FRAME, max_length=n, overlong="truncate")[3:]
        for n in (room_for_one, room_for_one - 1)
    ]
    assert counts[0] == (0, 3)
    assert counts[1] == (3, 0)


def test_weights_are_the_records_or_the_same_for_every_labeler(tokenizer: Tokenizer, tmp_path: Path) -> None:
    append_rankings(rankings(), tmp_path / "c")
    rows = read_collection(tmp_path / "c")
    assert [r.weight for r in encode_rankings(rows, tokenizer, FRAME).rankings] == [1, 1, 1]
    assert [r.weight for r in encode_rankings(rows, tokenizer, FRAME, "record").rankings] == pytest.approx(
        [1.8, 0.6, 0.6]
    )
    by_labeler = [r.weight for r in encode_rankings(rows, tokenizer, FRAME, "labeler").rankings]
    assert by_labeler == pytest.approx([0.75, 0.75, 1.5])


def test_a_frame_that_needs_a_reference_says_so(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="needs a reference"):
        FRAME.prompts(tokenizer, [{"prompt": "p"}])
    plain = Frame("{prompt}", [], [], [END])
    assert plain.prompts(tokenizer, [{"prompt": "p"}]) == encode(tokenizer, ["p"])
