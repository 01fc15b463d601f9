"""The search itself, over a Markov chain: hypotheses, limits and texts that leave."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.decoding.beam_search import FinishedHypotheses, NextTokens, search
from lightning_modules.decoding.translator_search import BeamFinished

END, TYPES = 0, 4


class MarkovChain:
    """Token j follows token i with probability `p[text, i, j]`; a text begins after its token END."""

    def __init__(self, p: Tensor) -> None:
        self.log_p = p.log()
        self.last = torch.zeros(len(p), 1, dtype=torch.long)
        self.texts_read: list[int] = []  # at each step

    def start(self) -> NextTokens:
        return self._predict()

    def advance(self, tokens: Tensor, rows: Tensor, kept: Tensor | None) -> NextTokens:
        if kept is not None:
            self.log_p = self.log_p[kept]
        self.last = tokens
        return self._predict()

    def _predict(self) -> NextTokens:
        self.texts_read.append(len(self.last))
        log_p = self.log_p[torch.arange(len(self.last))[:, None], self.last]
        # Any constant may be taken out, as a language model takes out what normalises its logits.
        return NextTokens(log_p + 3, torch.full((*log_p.shape[:2], 1), -3.0))


@pytest.fixture
def p() -> Tensor:
    return torch.rand(3, TYPES, TYPES, generator=torch.Generator().manual_seed(0)).softmax(-1)


def log_p_of(p: Tensor, tokens: list[int]) -> float:
    return sum(float(p[a, b].log()) for a, b in itertools.pairwise([END, *tokens]))


def hypotheses(finished: FinishedHypotheses) -> Iterator[tuple[int, list[int], float]]:
    for text, tokens, length, log_p in zip(
        finished.texts, finished.tokens, finished.lengths, finished.log_p, strict=True
    ):
        yield int(text), tokens[:length].tolist(), float(log_p)


@pytest.mark.parametrize("must_end", [True, False])
def test_a_beam_of_all_texts_finds_them_all_with_their_probabilities(p: Tensor, must_end: bool) -> None:
    """Up to 3 tokens: those that end, and where they may be cut, those of 3 tokens that do not."""
    beam, limit = TYPES**3, 3
    finished = search(
        MarkovChain(p), BeamFinished(beam, p), torch.full((3,), limit), beam_size=beam, end=END, must_end=must_end
    )
    words = range(1, TYPES)
    expected = {(*path, END) for n in range(limit) for path in itertools.product(words, repeat=n)}
    if not must_end:
        expected |= set(itertools.product(words, repeat=limit))
    for text in range(3):
        of_text = [(tokens, log_p) for i, tokens, log_p in hypotheses(finished) if i == text]
        assert len(of_text) == len(expected)
        assert {tuple(tokens) for tokens, _ in of_text} == expected
        for tokens, log_p in of_text:
            assert log_p == pytest.approx(log_p_of(p[text], tokens), abs=1e-5)


def test_each_text_has_its_own_limit_and_leaves_when_it_is_done(p: Tensor) -> None:
    chain = MarkovChain(p)
    limits = torch.tensor([2, 5, 3])
    finished = search(chain, BeamFinished(99, p), limits, beam_size=2, end=END, must_end=True)
    assert chain.texts_read == [3, 3, 2, 1, 1]
    for text, tokens, _ in hypotheses(finished):
        assert tokens[-1] == END
        assert len(tokens) <= limits[text]
    assert list(finished.lengths) == sorted(finished.lengths)


def test_rows_name_the_prediction_of_each_token(p: Tensor) -> None:
    """The first token of text i comes from row i, as a text then has one hypothesis."""
    finished = search(MarkovChain(p), BeamFinished(4, p), torch.tensor([4, 4, 4]), beam_size=4, end=END, must_end=True)
    np.testing.assert_array_equal(finished.rows[:, 0], finished.texts)
