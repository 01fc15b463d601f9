"""Translators of any architectures as one: the mean of their probabilities, token by token.

The members of Sutskever et al. (2014, table 1) had one architecture; those of Luong et al. (2015, 4.2) differed in attention and
dropout. Here they only have to share a vocabulary. A single translator is an ensemble of one, so every way of decoding exists once.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.errors import InputError
from data.tokenizer import BEGIN, PAD
from lightning_modules.training.config import Precision
from lightning_modules.training.precision import has_bf16
from lightning_modules.translators.base import Memory, State, Translator, right_padded

NO_CONTINUATION = [PAD, BEGIN]  # they get none of the probability


class Prediction(NamedTuple):
    """What an ensemble predicts after R hypotheses."""

    log_p: Tensor  # (R, V)
    attention: Tensor | None  # (R, A, S), of the A members that have attention; None where none has
    states: list[State]


class Ensemble:
    """M translators with one vocabulary of size V. Their memories and states have the same rows in the same order.

    Raises InputError when their vocabularies differ in size.
    """

    def __init__(self, models: Sequence[Translator]) -> None:
        self.models = list(models)
        sizes = [m.output[0].shape[0] for m in self.models]
        if len(set(sizes)) != 1:
            raise InputError(
                f"an ensemble needs one vocabulary; its members have different vocabulary sizes: {', '.join(map(str, sizes))}. "
                f"Give models of one run, or train with one tokenizer."
            )

    @classmethod
    def of(cls, model: "Translator | Ensemble") -> "Ensemble":
        """The ensemble itself, or an ensemble of one translator."""
        return model if isinstance(model, Ensemble) else cls([model])

    @property
    def device(self) -> torch.device:
        """Where the weights of the first member are."""
        return next(self.models[0].parameters()).device

    @property
    def longest_source(self) -> int | None:
        """The most source tokens, without the end token, that all members can read; None is any number."""
        limits = [m.longest_source for m in self.models if m.longest_source is not None]
        return min(limits) if limits else None

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within it all members are in evaluation mode; afterwards each is in its mode of before."""
        modes = [m.training for m in self.models]
        for model in self.models:
            model.eval()
        try:
            yield
        finally:
            for model, training in zip(self.models, modes, strict=True):
                model.train(training)

    def autocast(self, precision: Precision) -> torch.autocast:
        """Within it matrix multiplications are in `precision`, in float32 where the device has no bf16; states and sums are in float32."""
        device = self.device.type
        return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed" and has_bf16(device))

    def begin(self, source: Tensor, beams: int) -> tuple[list[Memory], list[State]]:
        """The encoded source (B, S), padded on either side, and the states before the first target token, `beams` rows for each sentence."""
        source = right_padded(source)
        memories = [m.encode(source) for m in self.models]
        return memories, [m.start(memory, beams) for m, memory in zip(self.models, memories, strict=True)]

    def step(self, memories: list[Memory], states: list[State], previous: Tensor) -> Prediction:
        """One target position of R hypotheses; `previous` (R,) are the tokens before it."""
        members = zip(self.models, memories, states, strict=True)
        steps = [m.step(memory, state, previous) for m, memory, state in members]
        attentions = [s.attention for s in steps if s.attention is not None]
        log_p = self.mean([log_softmax(m, s.features) for m, s in zip(self.models, steps, strict=True)])
        return Prediction(log_p, torch.stack(attentions, 1) if attentions else None, [s.state for s in steps])

    def mean(self, log_p: list[Tensor]) -> Tensor:
        """The log of the members' mean probability, from the log probabilities of each."""
        return log_p[0] if len(log_p) == 1 else torch.logsumexp(torch.stack(log_p), 0) - math.log(len(log_p))

    @property
    def attends(self) -> bool:
        """Whether any member has attention."""
        return any(m.aligned_step for m in self.models)

    def alignment(self, attention: np.ndarray, step: str = "predicted") -> np.ndarray:
        """The weights (T, S) that belong to each target token, from those of all steps, (T + 1, A, S).

        Step t reads y_{t-1} and predicts y_t; the weights of the step that read y_t are row t + 1. Each architecture's paper says which
        of the two tokens its weights align: `aligned_step`, taken with step "paper". Trained models align what they predict
        (docs/how-to/translators.md).
        """
        aligned_steps = [m.aligned_step if step == "paper" else step for m in self.models if m.aligned_step]
        weights = [attention[1:, a] if of == "input" else attention[:-1, a] for a, of in enumerate(aligned_steps)]
        return np.stack(weights).mean(0)


def select(members: list[dict[str, Tensor]], rows: Tensor) -> list[dict[str, Tensor]]:
    """The memories or states of all members at these rows."""
    return [{name: tensor.index_select(0, rows) for name, tensor in member.items()} for member in members]


def log_softmax(model: Translator, features: Tensor) -> Tensor:
    """(N, V) log p of the next token after features (N, d)."""
    weight, bias = model.output
    scores = torch.nn.functional.linear(features, weight, bias).float()
    for token in NO_CONTINUATION:  # several times faster than both at once
        scores[:, token] = -torch.inf
    return torch.log_softmax(scores, -1, out=scores)  # in place: fresh memory of this size costs as much as the sum
