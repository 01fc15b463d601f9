"""Beam search against a naive one, and what a sentence gets is its own."""

import itertools
import math

import pytest
import torch

from data.batching import padded
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.decoding import (
    DecodingSettings,
    Hypothesis,
    alignment,
    beam_search,
    length_penalty,
    sample,
    translate,
)
from lightning_modules.gru import GRU
from lightning_modules.seq2seq import Seq2Seq
from lightning_modules.translation import log_probability
from lightning_modules.translator import Translator

SOURCES = [[5, 6, 7, 8], [9], [10, 11, 12], [13, 14], [15, 16, 17, 18, 19, 20], [21, 22]]


def next_log_p(model: Translator, source: list[int], path: list[int]) -> list[float]:
    """log p of every next piece; begin and padding get none."""
    weight, bias = model.output
    with torch.inference_mode():
        features = model(torch.tensor([[*source, END]]), torch.tensor([[BEGIN, *path]]))[0, -1]
        scores = torch.nn.functional.linear(features, weight, bias)
        scores[[PAD, BEGIN]] = -math.inf
    return torch.log_softmax(scores, -1).tolist()


def naive_beam_search(model: Translator, source: list[int], settings: DecodingSettings) -> list[Hypothesis]:
    """The definition in `beam_search`, one sentence and one hypothesis at a time, with lists."""
    beam, limit = settings.beam, len(source) + settings.extra_pieces
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[Hypothesis] = []
    while len(finished) < beam:
        length = len(live[0][1]) + 1
        candidates = []
        for total, path in live:
            for piece, log_p in enumerate(next_log_p(model, source, path)):
                if math.isfinite(log_p) and (length <= limit or piece == END):
                    candidates.append((total + log_p, path, piece))
        candidates.sort(key=lambda c: -c[0])
        candidates = candidates[: 2 * beam]
        for total, path, piece in candidates[:beam]:
            if piece == END and len(finished) < beam:
                finished.append(Hypothesis(path, total / length_penalty(length, settings.length_penalty)))
        live = [(total, [*path, piece]) for total, path, piece in candidates if piece != END][:beam]
        if length > limit:
            break
    return sorted(finished, key=lambda h: -h.score)[: settings.n_best]


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_beam_search_equals_the_naive_one(translator: Translator, beam: int, alpha: float) -> None:
    settings = DecodingSettings(beam=beam, n_best=beam, length_penalty=alpha, extra_pieces=3)
    found = dict(translate(translator, SOURCES, settings))
    for i, source in enumerate(SOURCES):
        expected = naive_beam_search(translator, source, settings)
        assert [h.pieces for h in found[i]] == [h.pieces for h in expected]
        assert [h.score for h in found[i]] == pytest.approx([h.score for h in expected], abs=1e-4)


def test_a_wide_beam_finds_the_best_of_all(translator: Translator) -> None:
    settings = DecodingSettings(beam=900, length_penalty=0.0, extra_pieces=1)
    (found,) = beam_search(translator, padded([[5, END]]), settings)
    weight, _ = translator.output
    pieces = [p for p in range(weight.shape[0]) if p not in (PAD, BEGIN, END)]
    paths = [list(p) for n in range(3) for p in itertools.product(pieces, repeat=n)]
    scores = torch.cat([log_p(translator, paths[i : i + 500]) for i in range(0, len(paths), 500)])
    best = paths[int(scores.argmax())]
    assert found[0].pieces == best
    assert found[0].score == pytest.approx(scores.max().item(), abs=1e-4)


def log_p(model: Translator, paths: list[list[int]]) -> torch.Tensor:
    """log P of each path after the source [5]; begin and padding get none of the probability."""
    weight, bias = model.output
    target = padded([[BEGIN, *p, END] for p in paths])
    source = torch.tensor([[5, END]]).expand(len(paths), -1)
    with torch.inference_mode():
        scores = torch.nn.functional.linear(model(source, target[:, :-1]), weight, bias)
        scores[..., [PAD, BEGIN]] = -math.inf
        picked = torch.log_softmax(scores, -1).gather(2, target[:, 1:, None]).squeeze(2)
    return picked.masked_fill(target[:, 1:] == PAD, 0).sum(1)


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_what_a_sentence_gets_does_not_depend_on_its_batch(translator: Translator, method: str) -> None:
    results = []
    for batch_pieces in (1, 12, 10_000):
        settings = DecodingSettings(method=method, beam=3, n_best=3, extra_pieces=6, seed=4, batch_pieces=batch_pieces)
        found = dict(translate(translator, SOURCES, settings))
        results.append([[h.pieces for h in found[i]] for i in range(len(SOURCES))])
    assert results[0] == results[1] == results[2]


def test_no_translation_is_longer_than_allowed(translator: Translator) -> None:
    for method in ("beam", "sample"):
        settings = DecodingSettings(method=method, beam=2, n_best=2, extra_pieces=2)
        for i, hypotheses in translate(translator, SOURCES, settings):
            assert all(len(h.pieces) <= len(SOURCES[i]) + 2 for h in hypotheses)
            assert len(hypotheses) == 2


def test_an_empty_source_gives_an_empty_translation(translator: Translator) -> None:
    found = dict(translate(translator, [[], [5]], DecodingSettings(beam=2)))
    assert found[0] == [Hypothesis([], 0.0)]
    assert len(found) == 2


def test_samples_follow_the_models_distribution(translator: Translator) -> None:
    settings = DecodingSettings(method="sample", n_best=4000, extra_pieces=0, temperature=0.8)
    (samples,) = sample(translator, padded([[5, END]]), settings)
    p = torch.softmax(torch.tensor(next_log_p(translator, [5], [])) / 0.8, -1)
    counts = torch.bincount(torch.tensor([h.pieces[0] if h.pieces else END for h in samples]), minlength=len(p))
    assert (counts / 4000 - p).abs().max() < 0.03
    other, _ = sample(translator, padded([[5, END]] * 2), settings.model_copy(update={"n_best": 20, "seed": 9}))
    assert [h.pieces for h in other] != [h.pieces for h in samples[:20]]


def test_alignment_is_that_of_the_given_translation(translator: Translator) -> None:
    source, target = padded([[5, 6, END], [7, END]]), padded([[BEGIN, 8, 9, END], [BEGIN, 10, END]])
    weights = alignment(translator, source, target)
    if isinstance(translator, Seq2Seq | GRU):  # they have no attention
        assert weights is None
        return
    assert weights.shape == (2, 3, 3)
    if getattr(translator.settings, "attention", "global") != "local-p":  # whose Gaussian takes some away
        torch.testing.assert_close(weights.sum(2), torch.ones(2, 3))
    torch.testing.assert_close(
        weights[1, :2, :2], alignment(translator, source[1:, :2], target[1:, :3])[0], rtol=1e-5, atol=1e-6
    )


def test_decoding_leaves_the_training_mode_as_it_was(translator: Translator) -> None:
    translator.train()
    list(translate(translator, SOURCES, DecodingSettings(beam=1, extra_pieces=1)))
    assert translator.training
    assert log_probability(translator.eval(), padded([[5, END]]), padded([[BEGIN, END]])).shape == (1,)
