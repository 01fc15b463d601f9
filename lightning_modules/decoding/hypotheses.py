"""How to decode, what decoding returns, and how hypotheses are ranked."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from core.config import Config

COVERAGE_FLOOR = 1e-6  # a source token without any weight, outside all windows, costs the log of this, not infinity


class DecodingConfig(Config):
    """How to decode. A beam of 1 is greedy search."""

    method: Literal["beam", "sample"] = "beam"
    """`beam`: beam search. `sample`: draw from the model's distribution."""
    beam_size: int = Field(default=5, ge=1)
    """Width of the beam; 1 is greedy search."""
    n_best: int = Field(default=1, ge=1)
    """Hypotheses for each sentence, at most `beam_size`; with `sample` samples, of any number."""
    beam_alpha: float = Field(default=0.6, ge=-5, le=5)
    """Length normalization: log P / ((5 + length) / 6)^alpha ranks hypotheses (Wu et al. 2016, eq. 14). 0: log P alone."""
    coverage_penalty: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """beta of the same equation: favours hypotheses that attend to every source token. For models with attention."""
    alignments: bool = False
    """Each hypothesis has the attention weights of its steps."""
    aligned_step: Literal["predicted", "input", "paper"] = "predicted"
    """The step whose weights align a token: the one that predicted it, the one that read it, or the one that the model's paper says."""
    extra_tokens: int = Field(default=50, ge=0)
    """Maximum length of a translation, in tokens beyond the source. Vaswani et al. (2017, 6.1): 50."""
    temperature: float = Field(default=1.0, ge=1e-6)
    """Only with `sample`: the logits are divided by it; below 1 it sharpens the distribution."""
    seed: int = Field(default=0, ge=0)
    """Only with `sample`: seed of the draws."""
    batch_tokens: int = Field(default=2048, ge=1)
    """Source tokens of one batch, padding included. No result depends on it."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Matrix multiplications in bf16 where the device has it, sums in float32; or everything in float32."""

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "DecodingConfig":
        if self.method == "beam" and self.n_best > self.beam_size:
            raise ValueError(f"n_best ({self.n_best}) needs a beam of that width or more (found {self.beam_size})")
        if self.method == "sample" and self.coverage_penalty:
            raise ValueError('coverage_penalty is for method "beam": samples are not ranked')
        return self


@dataclass(frozen=True)
class Hypothesis:
    """One translation: its T tokens without begin and end, and the score that ranks the hypotheses of a sentence.

    With `DecodingConfig.alignments`, a model with attention adds weights over the S source tokens, the end token last.
    """

    tokens: list[int]
    score: float
    attention: np.ndarray | None = field(default=None, compare=False)  # (T + 1, S) weights of each step, the end's last
    alignment: np.ndarray | None = field(default=None, compare=False)  # (T, S) weights that belong to each token


def length_penalty(length: int | np.ndarray, alpha: float) -> float | np.ndarray:
    """lp(Y) = ((5 + |Y|) / 6)^alpha (Wu et al. 2016, eq. 14). |Y| counts the end token."""
    return ((5 + length) / 6) ** alpha


def coverage_penalty(attention: np.ndarray, beta: float) -> float:
    """cp(X; Y) = beta sum_i log(min(sum_j p_ij, 1)) (Wu et al. 2016, eq. 14), from the attention (T + 1, S) of all steps.

    The paper does not say whether X has its end token. Here it has not, as it needs no translation. A sum of 0, which only a
    window of local attention leaves, counts as `COVERAGE_FLOOR`.
    """
    coverage = attention[:, :-1].sum(0, dtype=np.float64)
    return float(beta * np.log(np.clip(coverage, COVERAGE_FLOOR, 1.0)).sum())


def score(log_p: float, length: int, attention: np.ndarray | None, config: DecodingConfig) -> float:
    """s(Y, X) = log P(Y|X) / lp(Y) + cp(X; Y) (Wu et al. 2016, eq. 14) of a finished hypothesis, its end token counted in `length`.

    The paper also prunes by s while it searches. Here log P decides which hypotheses stay open, and s ranks those that finished.
    """
    total = float(log_p / length_penalty(length, config.beam_alpha))
    if config.coverage_penalty and attention is not None:
        total += coverage_penalty(attention, config.coverage_penalty)
    return total
