"""Beam search against a naive one with its penalties, and what a sentence gets is its own."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import InputError
from data.batching import padded
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.decoding import translation as decoding
from lightning_modules.decoding.translation import (
    DecodingConfig,
    Hypothesis,
    alignment,
    beam_search,
    coverage_penalty,
    length_penalty,
    log_probabilities,
    sample,
    translate,
)
from lightning_modules.translators.base import Translator
from lightning_modules.translators.gru.model import GRU
from lightning_modules.translators.seq2seq.model import Seq2Seq

SOURCES = [[5, 6, 7, 8], [9], [10, 11, 12], [13, 14], [15, 16, 17, 18, 19, 20], [21, 22]]


def next_log_p(model: Translator, source: list[int], path: list[int]) -> list[float]:
    """log p of every next token; begin and padding get none."""
    weight, bias = model.output
    with torch.inference_mode():
        features = model(torch.tensor([[*source, END]]), torch.tensor([[BEGIN, *path]]))[0, -1]
        scores = torch.nn.functional.linear(features, weight, bias)
        scores[[PAD, BEGIN]] = -math.inf
    return torch.log_softmax(scores, -1).tolist()


def naive_beam_search(model: Translator, source: list[int], config: DecodingConfig) -> list[Hypothesis]:
    """The definition in `beam_search`, one sentence and one hypothesis at a time, with lists."""

    def score(total: float, path: list[int]) -> float:
        ranked = total / ((5 + len(path) + 1) / 6) ** config.beam_alpha
        if config.coverage_penalty:  # beta sum_i log(min(sum_j p_ij, 1)), of source tokens i and steps j
            p = forced_attention(model, source, path)
            for i in range(len(source)):
                seen = sum(p[j][i] for j in range(len(path) + 1))
                ranked += config.coverage_penalty * math.log(min(max(seen, 1e-6), 1.0))
        return ranked

    beam, limit = config.beam_size, len(source) + config.extra_tokens
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[Hypothesis] = []
    while len(finished) < beam:
        length = len(live[0][1]) + 1
        candidates = []
        for total, path in live:
            for token, log_p in enumerate(next_log_p(model, source, path)):
                if math.isfinite(log_p) and (length <= limit or token == END):
                    candidates.append((total + log_p, path, token))
        candidates.sort(key=lambda c: -c[0])
        candidates = candidates[: 2 * beam]
        for total, path, token in candidates[:beam]:
            if token == END and len(finished) < beam:
                finished.append(Hypothesis(path, score(total, path)))
        live = [(total, [*path, token]) for total, path, token in candidates if token != END][:beam]
        if length > limit:
            break
    return sorted(finished, key=lambda h: -h.score)[: config.n_best]


def forced_attention(model: Translator, source: list[int], path: list[int]) -> list[list[float]]:
    """Weights of all steps while the decoder is given `path`, this sentence alone."""
    weights = alignment(model, torch.tensor([[*source, END]]), torch.tensor([[BEGIN, *path, END]]))
    assert weights is not None
    return weights[0].tolist()


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.6, 0.0), (0.6, 0.4)])
@pytest.mark.parametrize("beam", [1, 3])
def test_beam_search_equals_the_naive_one(translator: Translator, beam: int, alpha: float, beta: float) -> None:
    config = DecodingConfig(
        beam_size=beam, n_best=beam, beam_alpha=alpha, coverage_penalty=beta, extra_tokens=3, alignments=True
    )
    if beta and translator.aligned_step is None:
        with pytest.raises(InputError, match="coverage_penalty: it needs attention"):
            list(translate(translator, SOURCES, config))
        return
    translations = dict(translate(translator, SOURCES, config))
    for i, source in enumerate(SOURCES):
        expected = naive_beam_search(translator, source, config)
        assert [h.tokens for h in translations[i]] == [h.tokens for h in expected]
        assert [h.score for h in translations[i]] == pytest.approx([h.score for h in expected], abs=1e-4)
        assert [h.score for h in translations[i]] == sorted((h.score for h in translations[i]), reverse=True)
        for h in translations[i]:
            if translator.aligned_step is None:
                assert h.attention is h.alignment is None
                continue
            assert h.attention is not None
            assert h.alignment is not None
            np.testing.assert_allclose(h.attention, forced_attention(translator, source, h.tokens), atol=1e-5)
            np.testing.assert_array_equal(h.alignment, h.attention[:-1])


def test_penalties_have_the_papers_values() -> None:
    assert length_penalty(7, 1.0) == pytest.approx(2)
    assert length_penalty(19, 0.5) == pytest.approx(2)
    assert length_penalty(3, 0.0) == 1
    # Two source tokens and the end token; the first is seen .5 + .25 + .05 = .8, the second more than once.
    attention = np.array([[0.5, 0.4, 0.1], [0.25, 0.7, 0.05], [0.05, 0.05, 0.9]], np.float32)
    assert coverage_penalty(attention, 0.2) == pytest.approx(0.2 * math.log(0.8), rel=1e-6)
    assert coverage_penalty(np.zeros((2, 2), np.float32), 1.0) == pytest.approx(math.log(1e-6))


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_products_in_bf16_give_scores_near_those_in_single(translator: Translator, method: str) -> None:
    """Of the same hypotheses; where the processor has no bf16 they are those in single precision."""
    config = DecodingConfig(
        method=method, beam_size=3, n_best=3, beam_alpha=0.0, extra_tokens=3, alignments=True, precision="bf16-mixed"
    )
    translations = dict(translate(translator, SOURCES, config))
    pairs = [(i, h) for i in range(len(SOURCES)) for h in translations[i]]
    expected = log_probabilities(translator, [SOURCES[i] for i, _ in pairs], [h.tokens for _, h in pairs])
    has_it = bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", Path("/proc/cpuinfo").read_text()))
    scores = [h.score for _, h in pairs]
    assert scores == pytest.approx(expected, rel=0.05 if has_it else 1e-4)
    assert (scores == pytest.approx(expected, rel=1e-6)) == (not has_it)


def test_given_pairs_score_as_beam_search_scores_them(translator: Translator) -> None:
    """Rescoring its own n-best list gives each hypothesis the log probability that it was found with."""
    config = DecodingConfig(beam_size=4, n_best=4, beam_alpha=0.0, extra_tokens=4)
    translations = dict(translate(translator, SOURCES, config))
    pairs = [(source, h) for i, source in enumerate(SOURCES) for h in translations[i]]
    for budget in (1, 9, 10_000):
        scored = log_probabilities(translator, [s for s, _ in pairs], [h.tokens for _, h in pairs], budget)
        assert scored == pytest.approx([h.score for _, h in pairs], abs=1e-4)


def test_a_wide_beam_finds_the_best_of_all(translator: Translator) -> None:
    config = DecodingConfig(beam_size=900, beam_alpha=0.0, extra_tokens=1)
    (hypotheses,) = beam_search(translator, padded([[5, END]]), config)
    weight, _ = translator.output
    tokens = [p for p in range(weight.shape[0]) if p not in (PAD, BEGIN, END)]
    paths = [list(p) for n in range(3) for p in itertools.product(tokens, repeat=n)]
    scores = torch.cat([log_p(translator, paths[i : i + 500]) for i in range(0, len(paths), 500)])
    best = paths[int(scores.argmax())]
    assert hypotheses[0].tokens == best
    assert hypotheses[0].score == pytest.approx(scores.max().item(), abs=1e-4)


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
    """Decoded 1, 7 and 64 at a time, among sentences of other lengths: the same tokens, scores and alignments."""
    generator = torch.Generator().manual_seed(2)
    sources = [torch.randint(5, 30, (1 + i % 5,), generator=generator).tolist() for i in range(64)]
    results = []
    for together in (1, 7, 64):
        config = DecodingConfig(
            method=method, beam_size=2, n_best=2, extra_tokens=1, seed=4, alignments=True, batch_tokens=10_000
        )
        translations: list[list[Hypothesis]] = []
        for start in range(0, len(sources), together):
            part = dict(translate(translator, sources[start : start + together], config))
            translations += [part[i] for i in range(len(part))]
        results.append([h for hypotheses in translations for h in hypotheses])
    for other in results[1:]:
        assert [h.tokens for h in other] == [h.tokens for h in results[0]]
        assert [h.score for h in other] == pytest.approx([h.score for h in results[0]], abs=1e-4)
        for h, expected in zip(other, results[0], strict=True):
            if expected.attention is not None:
                np.testing.assert_allclose(h.attention, expected.attention, atol=1e-5)
                np.testing.assert_allclose(h.alignment, expected.alignment, atol=1e-5)


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_hypotheses_of_a_batch_are_bounded(
    translator: Translator, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "HYPOTHESES", 7)
    batches: list[int] = []
    encode = translator.encode
    monkeypatch.setattr(translator, "encode", lambda source: batches.append(len(source)) or encode(source))
    config = DecodingConfig(method=method, beam_size=2, n_best=2, extra_tokens=1)
    assert len(list(translate(translator, [[5, 6]] * 8, config))) == 8
    assert batches == [3, 3, 2]


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_scores_that_are_not_finite_are_an_error(translator: Translator, method: str) -> None:
    translator.output[0].data.fill_(torch.nan)
    with pytest.raises(InputError, match="scores that are not finite: its weights are damaged"):
        list(translate(translator, SOURCES, DecodingConfig(method=method, beam_size=2)))


def test_no_translation_is_longer_than_allowed(translator: Translator) -> None:
    for method in ("beam", "sample"):
        config = DecodingConfig(method=method, beam_size=2, n_best=2, extra_tokens=2)
        for i, hypotheses in translate(translator, SOURCES, config):
            assert all(len(h.tokens) <= len(SOURCES[i]) + 2 for h in hypotheses)
            assert len(hypotheses) == 2


def test_an_empty_source_gives_an_empty_translation(translator: Translator) -> None:
    translations = dict(translate(translator, [[], [5]], DecodingConfig(beam_size=2)))
    assert translations[0] == [Hypothesis([], 0.0)]
    assert len(translations) == 2


def test_samples_follow_the_models_distribution(translator: Translator) -> None:
    config = DecodingConfig(method="sample", n_best=4000, extra_tokens=0, temperature=0.8)
    (samples,) = sample(translator, padded([[5, END]]), config)
    p = torch.softmax(torch.tensor(next_log_p(translator, [5], [])) / 0.8, -1)
    counts = torch.bincount(torch.tensor([h.tokens[0] if h.tokens else END for h in samples]), minlength=len(p))
    assert (counts / 4000 - p).abs().max() < 0.03
    other, _ = sample(translator, padded([[5, END]] * 2), config.model_copy(update={"n_best": 20, "seed": 9}))
    assert [h.tokens for h in other] != [h.tokens for h in samples[:20]]


def test_alignment_is_that_of_the_given_translation(translator: Translator) -> None:
    source, target = padded([[5, 6, END], [7, END]]), padded([[BEGIN, 8, 9, END], [BEGIN, 10, END]])
    weights = alignment(translator, source, target)
    if isinstance(translator, Seq2Seq | GRU):  # they have no attention
        assert weights is None
        return
    assert weights.shape == (2, 3, 3)
    if getattr(translator.config, "attention", "global") != "local-p":  # whose Gaussian takes some away
        torch.testing.assert_close(weights.sum(2), torch.ones(2, 3))
    torch.testing.assert_close(
        weights[1, :2, :2], alignment(translator, source[1:, :2], target[1:, :3])[0], rtol=1e-5, atol=1e-6
    )


def test_decoding_leaves_the_training_mode_as_it_was(translator: Translator) -> None:
    translator.train()
    list(translate(translator, SOURCES, DecodingConfig(beam_size=1, extra_tokens=1)))
    assert translator.training
    alignment(translator, padded([[5, END]]), padded([[BEGIN, END]]))
    assert translator.training
