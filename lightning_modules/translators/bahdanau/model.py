"""RNNsearch, the first attention (Bahdanau, Cho & Bengio 2014). Equations and symbols are the paper's; A and B are its appendices.

Options that differ from the paper; the preset `paper` has the paper's values:

- `dropout` (paper: 0) and `optimizer: adam` (paper: Adadelta) are for small data.
- `readout: previous | current`: the output layer reads s_{i-1} (A.2.2 and the authors' code, GroundHog) or s_i (eq. 4).

Choices that the paper leaves open, and fixed differences:

- It omits biases "to increase readability". Here every gate and candidate, s_0, t~ and the output layer have one vector, the
  alignment model none. y_0 has the embedding 0, as in the authors' code.
- The gated unit is Cho's (`gated_unit.py`) with 1 - z written for z.
- One vocabulary serves both languages, with an embedding for each.
- The paper sorts 1600 pairs by length into 20 batches of 80. Here all pairs are sorted, under a budget of tokens.

Computed otherwise, with the same result: U_a h_j, C h_j and C_o h_j exist once for each source token, and C c_i is
sum_j alpha_ij C h_j. As tanh(x) = 2 sigma(2 x) - 1, e_ij = 2 v_a . sigma(2 W_a s_{i-1} + 2 U_a h_j) - sum(v_a). The softmax does
not see the last term.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from data.tokenizer import BEGIN, PAD
from lightning_modules.translators.bahdanau.config import BahdanauConfig
from lightning_modules.translators.base import Memory, State, Step, Translator, reversal
from lightning_modules.translators.gated_unit import (
    GatedStep,
    GatedUnit,
    backward_step,
    forward_step,
    recurrent_gradient,
)


class Bahdanau(Translator):
    """A bidirectional encoder, and a decoder that before each step searches the source for where to read."""

    Config = BahdanauConfig

    def __init__(self, config: BahdanauConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        m, n, n_, l = config.embedding_dim, config.hidden_size, config.attention_size, config.maxout_size  # noqa: E741
        self.source_embedding = nn.Embedding(vocab_size, m)  # E of A.2.1, shared by both directions
        self.target_embedding = nn.Embedding(vocab_size, m, padding_idx=BEGIN)  # E of A.2.2
        self.forwards, self.backwards, self.decoder = GatedUnit(m, n), GatedUnit(m, n), GatedUnit(m, n)
        self.C = nn.Linear(2 * n, 3 * n, bias=False)  # C_z, C_r, C of the decoder's gates
        self.W_s = nn.Linear(n, n)
        self.W_a = nn.Linear(n, n_, bias=False)
        self.U_a = nn.Linear(2 * n, n_, bias=False)
        self.v_a = nn.Parameter(torch.empty(n_))
        self.U_o = nn.Linear(n, 2 * l)
        self.V_o = nn.Linear(m, 2 * l, bias=False)
        self.C_o = nn.Linear(2 * n, 2 * l, bias=False)
        self.W_o = nn.Linear(l, vocab_size)
        self.dropout = nn.Dropout(config.dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initial weights (B.1); the gated units have set theirs."""
        for module in self.children():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.001 if module in (self.W_a, self.U_a) else 0.01)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.v_a)
        with torch.no_grad():
            self.target_embedding.weight[BEGIN] = 0

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
        """The states (B, S, n) of one direction over `source` (B, S), without any work on padding."""
        packed = pack_padded_sequence(source, lengths, batch_first=True, enforce_sorted=False)
        packed = packed._replace(data=self.dropout(self.source_embedding(packed.data)))
        return pad_packed_sequence(unit(packed), batch_first=True, total_length=source.shape[1])[0]

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        y = self.dropout(self.target_embedding(target))
        W_a, v = 2 * self.W_a.weight, 2 * self.v_a  # as `align` takes them
        inputs = (memory["s"], self.decoder.W(y).transpose(0, 1), memory["keys"], memory["gates"])
        with torch.autocast(y.device.type, enabled=False):  # a state is a sum over all steps: never in half precision
            s, alpha = _Decoder.apply(*(x.to(v.dtype) for x in inputs), memory["visible"], W_a, v, self.decoder.U)
        s = s[:-1] if self.config.readout == "previous" else s[1:]
        return self.dropout(self.deep_output(s.transpose(0, 1), y, alpha.transpose(0, 1) @ memory["readout"]))

    def deep_output(self, s: Tensor, y: Tensor, C_o_c: Tensor) -> Tensor:
        """t (..., l) from states s (..., n), embeddings y (..., m) and C_o c_i (..., 2 l)."""
        t = (
            self.U_o(s) + self.V_o(y) + C_o_c
        )  # t~ = U_o s_{i-1} + V_o E y_{i-1} + C_o c_i; t is the larger of each two (A.2.2)
        return torch.maximum(t[..., 0::2], t[..., 1::2])

    def start(self, memory: Memory, beams: int) -> State:
        return {"s": memory["s"].to(self.v_a.dtype).repeat_interleave(beams, 0)}  # a state: never in half precision

    def step(self, memory: Memory, state: State, previous: Tensor) -> Step:
        s, y = state["s"], self.target_embedding(previous)
        query = nn.functional.linear(s, 2 * self.W_a.weight).view(
            len(memory["visible"]), -1, self.config.attention_size
        )
        alpha, _ = align(query, memory["keys"], 2 * self.v_a, memory["visible"])
        new = self.decoder.step(self.decoder.W(y) + (alpha @ memory["gates"]).flatten(0, 1), s)
        readout_state = s if self.config.readout == "previous" else new
        t = self.deep_output(readout_state, y, (alpha @ memory["readout"]).flatten(0, 1))
        return Step(t, alpha.flatten(0, 1), {"s": new})


def align(query: Tensor, keys: Tensor, v: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """alpha_i = softmax_j(e_ij) (eq. 6) of N decoder states for each of B sentences: (B, N, S), and sigma for its gradient.

    Args:
        query: (B, N, n') 2 W_a s_{i-1}; keys: (B, S, n') 2 U_a h_j; v: (n') 2 v_a; visible: (B, S).
    """
    sigma = (query[:, :, None] + keys[:, None]).sigmoid_()  # (B, N, S, n')
    return (sigma @ v).masked_fill_(~visible[:, None], -torch.inf).softmax(-1), sigma


class _Decoder(torch.autograd.Function):
    """All states and alignments of a given target.

    What needs no step before it is computed for all steps at once: the gradients of weights, keys and values are one product
    each, after the loop.
    """

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
        """States (T + 1, B, n) from s_0 on, and alpha (T, B, S).

        Args:
            s: (B, n) s_0; gates: (T, B, 3n) W E y_{i-1} of all gates; values: (B, S, 3n) C h_j of all gates.
            keys: (B, S, n'), visible: (B, S), W_a: (n', n), v: (n') as `align` takes them; U: (3n, n) of the gated unit.
        """
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
        values = values.transpose(1, 2)  # a row times it: it times a column takes torch ten times as long
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


Model = Bahdanau
