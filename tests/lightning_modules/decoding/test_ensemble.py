"""Ensembles of unlike architectures: one of one is its member, order is nothing, probabilities are averaged."""

import itertools

import numpy as np
import pytest
import torch

from core.errors import InputError
from data.batching import padded
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.decoding.translation import (
    DecodingConfig,
    Ensemble,
    Hypothesis,
    alignment,
    beam_search,
    log_probabilities,
    translate,
)
from lightning_modules.translators.bahdanau.model import Bahdanau, BahdanauConfig
from lightning_modules.translators.base import Translator
from lightning_modules.translators.gru.model import GRU, GRUConfig
from lightning_modules.translators.luong.model import Luong, LuongConfig
from lightning_modules.translators.transformer.model import Transformer, TransformerConfig

VOCABULARY = 11
SOURCES = [[5, 6, 7, 8], [9], [10, 5, 7], [6, 5]]


@pytest.fixture(scope="module")
def members() -> list[Translator]:
    torch.manual_seed(3)
    models = [
        Transformer(TransformerConfig(num_layers=1, hidden_size=16, ff_size=16, num_heads=2), VOCABULARY),
        Luong(LuongConfig(embedding_dim=8, hidden_size=12), VOCABULARY),
        Bahdanau(BahdanauConfig(embedding_dim=8, hidden_size=12, attention_size=8, maxout_size=8), VOCABULARY),
        GRU(GRUConfig(embedding_dim=8, hidden_size=12, maxout_size=8), VOCABULARY),
    ]
    for model in models[1:]:
        for parameter in model.parameters():
            torch.nn.init.uniform_(parameter, -0.8, 0.8)
    return [m.eval() for m in models]


def decoded(model: Translator | Ensemble, **changes: object) -> list[list[Hypothesis]]:
    config = DecodingConfig(beam_size=4, n_best=4, extra_tokens=3, alignments=True).model_copy(update=changes)
    translations = dict(translate(model, SOURCES, config))
    return [translations[i] for i in range(len(SOURCES))]


def test_an_ensemble_of_one_is_its_member(translator: Translator) -> None:
    assert decoded(Ensemble([translator])) == decoded(translator)


def test_the_order_of_members_changes_nothing(members: list[Translator]) -> None:
    first = [h for hypotheses in decoded(Ensemble(members)) for h in hypotheses]
    for order in itertools.islice(itertools.permutations(members), 1, None, 5):
        other = [h for hypotheses in decoded(Ensemble(order)) for h in hypotheses]
        assert [h.tokens for h in other] == [h.tokens for h in first]
        assert [h.score for h in other] == pytest.approx([h.score for h in first], abs=1e-5)
        for a, b in zip(other, first, strict=True):
            np.testing.assert_allclose(a.alignment, b.alignment, atol=1e-5)


def test_the_best_of_all_translations_by_averaged_probabilities(members: list[Translator]) -> None:
    """A beam as wide as the space finds the ranking of all translations of up to 2 tokens, each scored by itself."""
    config = DecodingConfig(beam_size=90, n_best=90, beam_alpha=0.0, extra_tokens=1)
    (hypotheses,) = beam_search(Ensemble(members), padded([[5, END]]), config)
    tokens = [p for p in range(VOCABULARY) if p not in (PAD, BEGIN, END)]
    paths = [list(p) for n in range(3) for p in itertools.product(tokens, repeat=n)]
    expected = {tuple(path): naive_log_p(members, [5], path) for path in paths}
    assert [tuple(h.tokens) for h in hypotheses] == sorted(expected, key=lambda p: -expected[p])
    assert {tuple(h.tokens): h.score for h in hypotheses} == pytest.approx(expected, abs=1e-5)


def naive_log_p(members: list[Translator], source: list[int], path: list[int]) -> float:
    """Sum over positions of the log of the mean over members of p, from one forward pass of each."""
    total = 0.0
    for t, token in enumerate([*path, END]):
        p = 0.0
        for model in members:
            weight, bias = model.output
            with torch.inference_mode():
                features = model(torch.tensor([[*source, END]]), torch.tensor([[BEGIN, *path[:t]]]))[0, -1]
                scores = torch.nn.functional.linear(features, weight, bias)
                scores[[PAD, BEGIN]] = -torch.inf
            p += float(torch.softmax(scores, -1)[token]) / len(members)
        total += float(np.log(p))
    return total


def test_rescoring_averages_probabilities_too(members: list[Translator]) -> None:
    ensemble = Ensemble(members)
    translations = decoded(ensemble, beam_alpha=0.0)
    pairs = [(source, h) for source, hypotheses in zip(SOURCES, translations, strict=True) for h in hypotheses]
    scored = log_probabilities(ensemble, [s for s, _ in pairs], [h.tokens for _, h in pairs])
    assert scored == pytest.approx([h.score for _, h in pairs], abs=1e-4)
    source, h = pairs[0]
    assert scored[0] == pytest.approx(naive_log_p(members, source, h.tokens), abs=1e-4)


def test_each_member_aligns_by_the_step_of_its_paper(members: list[Translator]) -> None:
    """Content-based Luong weights belong to the token that was read, the others' to the token that was predicted."""
    transformer, luong, bahdanau, gru = members
    h = decoded(Ensemble(members), aligned_step="paper")[0][0]
    source, target = torch.tensor([[*SOURCES[0], END]]), torch.tensor([[BEGIN, *h.tokens, END]])
    steps = {m: alignment(m, source, target)[0].numpy() for m in (transformer, luong, bahdanau)}
    np.testing.assert_allclose(h.attention, np.mean(list(steps.values()), 0), atol=1e-5)
    expected = np.mean([steps[transformer][:-1], steps[bahdanau][:-1], steps[luong][1:]], 0)
    np.testing.assert_allclose(h.alignment, expected, atol=1e-5)
    for way, rows in (("predicted", slice(None, -1)), ("input", slice(1, None))):
        h = decoded(luong, aligned_step=way)[0][0]
        np.testing.assert_array_equal(h.alignment, h.attention[rows])
    assert decoded(gru)[0][0].alignment is None


def test_one_vocabulary_is_needed(members: list[Translator]) -> None:
    other = GRU(GRUConfig(embedding_dim=8, hidden_size=12, maxout_size=8), VOCABULARY + 1)
    with pytest.raises(InputError, match="different vocabulary sizes: 11, 12"):
        Ensemble([members[0], other])
