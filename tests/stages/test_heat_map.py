"""The heat map of a translation shows what beam search aligns, row by row."""

from typing import Any

import numpy as np
import pytest
import torch

from data.batching import padded
from data.tokenizer import END
from lightning_modules.decoding.translation import DecodingConfig, beam_search
from lightning_modules.translators.luong.model import Luong, LuongConfig
from stages.evaluation import heat_map

SOURCE = [5, 6, 7, 8, 9, 10, 11, 12]


class Numbers:
    """A tokenizer whose tokens are their numbers."""

    def decode(self, tokens: list[int], **_: Any) -> str:
        return " ".join(map(str, tokens))


@pytest.mark.parametrize("score", ["general", "location"])
def test_rows_belong_to_the_tokens_they_are_labelled_with(score: Any) -> None:
    torch.manual_seed(0)
    model = Luong(LuongConfig(embedding_dim=12, hidden_size=16, score=score, max_source_length=12, init=0.8), 30).eval()
    config = DecodingConfig(beam_size=2, extra_tokens=3, alignments=True)
    ((hypothesis, *_),) = beam_search(model, padded([[*SOURCE, END]]), config)
    assert len(hypothesis.tokens) > 2
    assert hypothesis.alignment is not None
    shown = heat_map(model, Numbers(), [SOURCE], [hypothesis.tokens])
    assert shown
    assert shown["source"] == [*map(str, SOURCE), str(END)]
    labels = list(map(str, hypothesis.tokens))
    assert shown["target"] == [*labels, str(END)]
    assert len(shown["weights"]) == len(shown["target"])
    np.testing.assert_allclose(shown["weights"][: len(labels)], hypothesis.alignment, atol=1e-4)
    assert np.abs(np.diff(hypothesis.alignment, axis=0)).max() > 0.01  # a row too early or late would show


def test_an_empty_translation_shows_its_end() -> None:
    model = Luong(LuongConfig(embedding_dim=12, hidden_size=16), 30).eval()
    shown = heat_map(model, Numbers(), [SOURCE], [[]])
    assert shown
    assert shown["target"] == [str(END)]
    assert np.shape(shown["weights"]) == (1, len(SOURCE) + 1)
