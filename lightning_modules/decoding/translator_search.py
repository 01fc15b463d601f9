"""Beam search with a translator or an ensemble, and the attention of the hypotheses' own steps."""

import numpy as np
import torch
from torch import Tensor

from core.errors import InputError, NotFiniteError
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.decoding.beam_search import FinishedHypotheses, NextTokens, search
from lightning_modules.decoding.ensemble import Ensemble, select
from lightning_modules.decoding.hypotheses import DecodingConfig, Hypothesis, score
from lightning_modules.translators.base import Translator


@torch.no_grad()
def beam_search(model: Translator | Ensemble, source: Tensor, config: DecodingConfig) -> list[list[Hypothesis]]:
    """Beam search over a padded batch (B, S): `n_best` hypotheses for each sentence, best first.

    A sentence is done when `beam_size` hypotheses have finished. At `extra_tokens` beyond its source every hypothesis must end.

    Raises InputError when the config has a coverage penalty and the model no attention, or when no score is finite.
    """
    ensemble = Ensemble.of(model)
    if config.coverage_penalty and not ensemble.attends:
        raise InputError("coverage_penalty: it needs attention, and the model has none. Set it to 0 for this model.")
    sizes = (source != PAD).sum(1)
    with ensemble.autocast(config.precision):
        decoder = TranslatorDecoder(ensemble, source, config.alignments or config.coverage_penalty > 0)
        finished = search(
            decoder,
            BeamFinished(config.beam_size, source),
            sizes + config.extra_tokens,  # the end token of the source makes room for that of the translation
            beam_size=config.beam_size,
            end=END,
            must_end=True,
        )
    return _ranked(finished, decoder.attention_of(finished), ensemble, sizes.tolist(), config)


class TranslatorDecoder:
    """The `Decoder` of an ensemble: encoded sentences, a state for each open hypothesis, the attention of all steps."""

    def __init__(self, ensemble: Ensemble, source: Tensor, keeps_attention: bool) -> None:
        self.ensemble, self.source = ensemble, source
        self.memories, self.states = ensemble.begin(source, 1)
        self.keeps_attention = keeps_attention
        self.attention: list[np.ndarray] = []  # of each step: (N * H, A, S)

    def start(self) -> NextTokens:
        return self._predict(self.source.new_full((len(self.source), 1), BEGIN))

    def advance(self, tokens: Tensor, rows: Tensor, kept: Tensor | None) -> NextTokens:
        if kept is not None:
            self.memories = select(self.memories, kept)
        self.states = select(self.states, rows.flatten())
        return self._predict(tokens)

    def _predict(self, previous: Tensor) -> NextTokens:
        log_p, attention, self.states = self.ensemble.step(self.memories, self.states, previous.flatten())
        if self.keeps_attention and attention is not None:
            self.attention.append(attention.float().cpu().numpy())
        return NextTokens(log_p.view(*previous.shape, -1))

    def attention_of(self, finished: FinishedHypotheses) -> np.ndarray | None:
        """(F, T, A, S) weights of the step that predicted each token; None where none are kept."""
        if not self.attention:
            return None
        weights = np.zeros((*finished.rows.shape, *self.attention[0].shape[1:]), np.float32)
        for t in range(weights.shape[1]):
            reached = finished.lengths > t
            weights[reached, t] = self.attention[t][finished.rows[reached, t]]
        return weights


class BeamFinished:
    """A sentence is done when `beam_size` of its hypotheses have finished; of more, the best count."""

    def __init__(self, beam_size: int, source: Tensor) -> None:
        self.beam_size = beam_size
        self.finished = torch.zeros(len(source), dtype=torch.long, device=source.device)  # (N,) how many

    def finish(self, ended: Tensor, log_p: Tensor, length: int) -> Tensor:
        finished = ended & (self.finished[:, None] + ended.cumsum(1) <= self.beam_size)
        self.finished = self.finished + finished.sum(1)
        return finished

    def done(self, log_p: Tensor, length: int) -> Tensor:
        return self.finished >= self.beam_size

    def keep(self, texts: Tensor) -> None:
        self.finished = self.finished[texts]


def _ranked(
    finished: FinishedHypotheses,
    attention: np.ndarray | None,
    ensemble: Ensemble,
    sizes: list[int],
    config: DecodingConfig,
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of each sentence, best first; of equals, the first that finished. `sizes` counts the end token."""
    hypotheses: list[list[Hypothesis]] = [[] for _ in sizes]
    for i, (sentence, length) in enumerate(zip(finished.texts.tolist(), finished.lengths.tolist(), strict=True)):
        weights = attention[i, :length, :, : sizes[sentence]] if attention is not None else None
        tokens = finished.tokens[i, : length - 1].tolist()
        hypotheses[sentence].append(_hypothesis(ensemble, tokens, float(finished.log_p[i]), weights, config))
    if not all(hypotheses):
        raise NotFiniteError
    return [sorted(of_sentence, key=lambda h: -h.score)[: config.n_best] for of_sentence in hypotheses]


def _hypothesis(
    ensemble: Ensemble, tokens: list[int], log_p: float, attention: np.ndarray | None, config: DecodingConfig
) -> Hypothesis:
    """A finished hypothesis of T tokens with its score, from the attention (T + 1, A, S) of its steps."""
    mean = attention.mean(1) if attention is not None else None
    total = score(log_p, len(tokens) + 1, mean, config)
    if attention is None or not config.alignments:
        return Hypothesis(tokens, total)
    return Hypothesis(tokens, total, mean, ensemble.alignment(attention, config.aligned_step))
