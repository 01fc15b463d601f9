"""RNNsearch: attention (Bahdanau, Cho & Bengio 2014). Equation numbers and symbols are the paper's; A and B are its appendices.

Where the paper leaves a choice:
- It omits biases "to increase readability": here one vector for every gate and candidate, s_0, t~ and the output layer, none
  in the alignment model. y_0 has the embedding 0, as in the authors' code (GroundHog).
- The output layer reads s_{i-1} in A.2.2 and in the authors' code, s_i in eq. 4: `readout: previous` and `current`.
- Its gated unit is Cho's (`gated_unit.py`) with 1 - z written for z.
- Batches: the paper sorts 1600 pairs by length into 20 batches of 80; here all pairs are sorted, under a budget of tokens.

Differences, as settings: `dropout` (paper: 0) and Adam in place of Adadelta, both for small data; the preset `paper` has the
paper's. One vocabulary serves both languages, with an embedding for each.

What is computed otherwise, with the same result: U_a h_j, C h_j and C_o h_j are made once for each source token, and
C c_i = sum_j alpha_ij C h_j. tanh(x) = 2 sigma(2 x) - 1, so e_ij = 2 v_a . sigma(2 W_a s_{i-1} + 2 U_a h_j) - sum(v_a), whose
last term the softmax does not see.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from data.tokenizer import BEGIN, PAD
from lightning_modules.training.config import Optimizer
from lightning_modules.translators.base import (
    Memory,
    Presets,
    State,
    Step,
    Translator,
    TranslatorConfig,
    TranslatorTrainingConfig,
    reversal,
)
from lightning_modules.translators.gated_unit import (
    GatedStep,
    GatedUnit,
    backward_step,
    forward_step,
    recurrent_gradient,
)


class BahdanauTrainingConfig(TranslatorTrainingConfig):
    """For small data."""

    learning_rate: float = 1e-3
    optimizer: Optimizer = "adam"
    num_train_epochs: int = 10
    max_grad_norm: float | None = 1.0


class BahdanauConfig(TranslatorConfig):
    """Sizes in the paper's symbols (A.2.3)."""

    embedding_dim: int = Field(default=256, ge=1)
    """Width of the embeddings, m. Paper: 620 (A.2.3)."""
    hidden_size: int = Field(default=256, ge=1)
    """Units of each network, n. Paper: 1000 (A.2.3)."""
    attention_size: int = Field(default=256, ge=1)
    """Hidden units of the alignment model, n'. Paper: 1000 (A.2.3)."""
    maxout_size: int = Field(default=128, ge=1)
    """Maxout units of the output layer, l. Paper: 500 (A.2.3)."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout on embeddings, annotations and maxout units. Paper: 0."""
    readout: Literal["previous", "current"] = "previous"
    """The state that the output layer reads: `previous`, s_{i-1} (A.2.2); `current`, s_i (eq. 4)."""
    training: BahdanauTrainingConfig = BahdanauTrainingConfig()
    """How it is trained. Default: for small data; the preset `paper` has the paper's."""

    presets: ClassVar[Presets] = {
        "paper": {  # A.2.3 and B.2: the sizes, Adadelta with rho .95 and epsilon 1e-6, batches of 80 sentences (of about 30 words)
            "embedding_dim": 620,
            "hidden_size": 1000,
            "attention_size": 1000,
            "maxout_size": 500,
            "dropout": 0.0,
            "readout": "previous",
            "training": {
                "optimizer": "adadelta",
                "learning_rate": 1.0,
                "max_grad_norm": 1.0,
                "batch_tokens": 80 * 30,
                "normalization": "batch",
                "num_train_epochs": 5,
            },
        }
    }


class Bahdanau(Translator):
    """Bidirectional encoder; a decoder that, before each step, looks for where in the source to read."""

    Config = BahdanauConfig

    def __init__(self, settings: BahdanauConfig, vocabulary: int) -> None:
        super().__init__()
        self.settings = settings
        m, n, n_, l = settings.embedding_dim, settings.hidden_size, settings.attention_size, settings.maxout_size  # noqa: E741
        self.source_embedding = nn.Embedding(vocabulary, m)  # E of A.2.1, shared by both directions
        self.target_embedding = nn.Embedding(vocabulary, m, padding_idx=BEGIN)  # E of A.2.2
        self.forwards, self.backwards, self.decoder = GatedUnit(m, n), GatedUnit(m, n), GatedUnit(m, n)
        self.C = nn.Linear(2 * n, 3 * n, bias=False)  # C_z, C_r, C
        self.W_s = nn.Linear(n, n)
        self.W_a = nn.Linear(n, n_, bias=False)
        self.U_a = nn.Linear(2 * n, n_, bias=False)
        self.v_a = nn.Parameter(torch.empty(n_))
        self.U_o = nn.Linear(n, 2 * l)
        self.V_o = nn.Linear(m, 2 * l, bias=False)
        self.C_o = nn.Linear(2 * n, 2 * l, bias=False)
        self.W_o = nn.Linear(l, vocabulary)
        self.dropout = nn.Dropout(settings.dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """B.1; the gated units have set theirs."""
        for module in self.children():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.001 if module in (self.W_a, self.U_a) else 0.01)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.v_a)
        with torch.no_grad():
            self.target_embedding.weight[BEGIN] = 0

    @property
    def width(self) -> int:
        return self.settings.maxout_size

    @property
    def output(self) -> tuple[Tensor, Tensor]:
        return self.W_o.weight, self.W_o.bias

    @property
    def aligned_step(self) -> Literal["predicted"]:
        """alpha_i is made from s_{i-1}, before y_{i-1} is read: it can only be that of y_i (3.1)."""
        return "predicted"

    def encode(self, source: Tensor) -> Memory:
        visible = source != PAD
        lengths = visible.sum(1)
        order = reversal(lengths, source.shape[1])
        ahead, back = (
            self.states(unit, tokens, lengths.cpu())
            for unit, tokens in ((self.forwards, source), (self.backwards, source.gather(1, order)))
        )
        back = back.gather(1, order[..., None].expand_as(back))
        h = self.dropout(torch.cat([ahead, back], -1))  # annotations h_j = [h_j forward; h_j backward] (eq. 7)
        return {
            "s": torch.tanh(self.W_s(back[:, 0])),  # s_0 = tanh(W_s h_1 backward) (A.2.2)
            "keys": nn.functional.linear(h, 2 * self.U_a.weight),  # 2 U_a h_j (A.1.2)
            "gates": self.C(h),
            "readout": self.C_o(h),
            "visible": visible,
        }

    def states(self, unit: GatedUnit, source: Tensor, lengths: Tensor) -> Tensor:
        """The states (B, S, n) of one direction, without any work on padding."""
        packed = pack_padded_sequence(source, lengths, batch_first=True, enforce_sorted=False)
        packed = packed._replace(data=self.dropout(self.source_embedding(packed.data)))
        return pad_packed_sequence(unit(packed), batch_first=True, total_length=source.shape[1])[0]

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        y = self.dropout(self.target_embedding(target))
        W_a, v = 2 * self.W_a.weight, 2 * self.v_a  # as `align` takes them
        inputs = (memory["s"], self.decoder.W(y).transpose(0, 1), memory["keys"], memory["gates"])
        with torch.autocast(y.device.type, enabled=False):  # a state is a sum over all steps: never in half precision
            s, alpha = _Decoder.apply(*(x.to(v.dtype) for x in inputs), memory["visible"], W_a, v, self.decoder.U)
        s = s[:-1] if self.settings.readout == "previous" else s[1:]
        return self.dropout(self.deep_output(s.transpose(0, 1), y, alpha.transpose(0, 1) @ memory["readout"]))

    def deep_output(self, s: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """t (..., l): the larger of each two of t~ = U_o s_{i-1} + V_o E y_{i-1} + C_o c_i (A.2.2), `c` being C_o c_i."""
        t = self.U_o(s) + self.V_o(y) + c
        return torch.maximum(t[..., 0::2], t[..., 1::2])

    def start(self, memory: Memory, beams: int) -> State:
        return {"s": memory["s"].to(self.v_a.dtype).repeat_interleave(beams, 0)}  # a state: never in half precision

    def step(self, memory: Memory, state: State, previous: Tensor) -> Step:
        s, y = state["s"], self.target_embedding(previous)
        query = nn.functional.linear(s, 2 * self.W_a.weight).view(
            len(memory["visible"]), -1, self.settings.attention_size
        )
        alpha, _ = align(query, memory["keys"], 2 * self.v_a, memory["visible"])
        new = self.decoder.step(self.decoder.W(y) + (alpha @ memory["gates"]).flatten(0, 1), s)
        read = s if self.settings.readout == "previous" else new
        t = self.deep_output(read, y, (alpha @ memory["readout"]).flatten(0, 1))
        return Step(t, alpha.flatten(0, 1), {"s": new})


def align(query: Tensor, keys: Tensor, v: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """alpha_i = softmax_j(e_ij) (eq. 6) of N decoder states for each of B sentences: (B, N, S), and sigma for its gradient.

    Args:
        query: (B, N, n') 2 W_a s_{i-1}; keys: (B, S, n') 2 U_a h_j; v: (n') 2 v_a; visible: (B, S).
    """
    sigma = (query[:, :, None] + keys[:, None]).sigmoid_()  # (B, N, S, n')
    return (sigma @ v).masked_fill_(~visible[:, None], -torch.inf).softmax(-1), sigma


class _Decoder(torch.autograd.Function):
    """All states and alignments of a target that is known. What needs no step before it is done for all steps at once: the
    gradients of weights, keys and values are one product each, after the loop."""

    @staticmethod
    def forward(
        ctx: Any,
        s: Tensor,
        gates: Tensor,
        keys: Tensor,
        values: Tensor,
        visible: Tensor,
        W_a: Tensor,
        v: Tensor,
        U: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """States (T + 1, B, n) from s_0, and alpha (T, B, S). `gates` (T, B, 3n) are the shares of the tokens before each
        position, `values` (B, S, 3n) those of the annotations; `keys`, `W_a` and `v` as `align` takes them."""
        states, alphas, sigmas = [s], [], []
        steps: list[GatedStep] = []
        for gate in gates:
            alpha, sigma = align((states[-1] @ W_a.t())[:, None], keys, v, visible)
            step = forward_step(gate + (alpha @ values)[:, 0], states[-1], U)
            states.append(step.h)
            steps.append(step)
            alphas.append(alpha[:, 0])
            sigmas.append(sigma[:, 0])
        h, alpha = torch.stack(states), torch.stack(alphas)
        _, *gated = map(torch.stack, zip(*steps, strict=True))
        ctx.save_for_backward(h, alpha, values, W_a, v, U, *gated, *sigmas)
        return h, alpha

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_alphas: Tensor) -> tuple[Tensor | None, ...]:
        h, alphas, values, W_a, v, U, zr, reset, candidate, *sigmas = ctx.saved_tensors
        h = h[:-1]
        steps, sentences, n = h.shape
        d_gates, d_query = zr.new_empty(steps, sentences, 3 * n), zr.new_empty(steps, sentences, len(v))
        d_keys, d_v, d_sum = torch.zeros_like(sigmas[0]), torch.zeros_like(v), torch.empty_like(sigmas[0])
        values = values.transpose(1, 2)  # a row before it: a column behind it takes torch ten times as long
        d_s = d_states[-1]
        for t in reversed(range(steps)):
            d_s = backward_step(d_s, h[t], zr[t], reset[t], candidate[t], U, d_gates[t])
            alpha, sigma = alphas[t], sigmas[t]
            d_alpha = d_alphas[t] + (d_gates[t][:, None] @ values)[:, 0]
            d_e = alpha * (d_alpha - (alpha * d_alpha).sum(1, keepdim=True))  # (B, S)
            d_v += d_e.flatten() @ sigma.flatten(0, 1)
            # The gradient of the sum in sigma (B, S, n'), but for its factor v.
            torch.addcmul(sigma, sigma, sigma, value=-1, out=d_sum).mul_(d_e[..., None])
            d_keys += d_sum
            torch.mul(d_sum.sum(1), v, out=d_query[t])
            d_s = torch.addmm(d_s, d_query[t], W_a) + d_states[t]
        d_U = recurrent_gradient(*(x.flatten(0, 1) for x in (d_gates, h, reset)))
        d_W_a = d_query.flatten(0, 1).t() @ h.flatten(0, 1)
        d_values = alphas.permute(1, 2, 0) @ d_gates.transpose(0, 1)  # (B, S, T) (B, T, 3n)
        return d_s, d_gates, d_keys * v, d_values, None, d_W_a, d_v, d_U
