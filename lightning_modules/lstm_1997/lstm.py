"""Memory blocks (Hochreiter & Schmidhuber 1997) with the truncated gradient of the paper's appendix A.1.

This is not `torch.nn.LSTM`. There is no forget gate and no peephole; g is in [-2, 2], h in [-1, 1]. The cells of a block share its
gates. Cells and gates see all cells *and gates* of the step before. Biases exist only where the network has them.

Errors that reach net_in, net_out or net_c go no further back; only the constant error carousel carries error through time.
So the derivatives of the internal states, eqs. (25) and (27), are running sums of products of the forward pass, with the same
cost at every step. Learning by step carries them along and stores nothing else. Learning by sequence sums the same products
after a sequence's forward pass, as matrix products over its steps.

All weights have a leading trial dimension n: independent trials learn side by side, each on its own sequences, as one batched
computation. Shapes: n trials, R sequences of each, T steps, B blocks of S cells, C = B * S, H cells and gates, K outputs.

Equations and symbols are A.1's. As in section 5 ("slight deviation from the notation") hidden and output units are computed
in the time step of their input. As in eq. (19), E's factor 2 is left out: updates descend half the squared error (16).
`forget_gate_lstm.py` has its successor, with a forget gate.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from data.long_lag import Network, Sequences, at_end

# Elements that a CPU kernel takes at once. The rest at a tensor's end goes through other code and may differ in its last digit.
# So the trial dimension is filled up to whole lanes: a trial's digits do not depend on how many run beside it.
LANES = 32


@dataclass(frozen=True)
class Activations:
    """The values of a forward pass that its backward pass needs, time first."""

    y: Tensor  # (T + 1, n, R, H) cells, input gates, output gates; 0 before the first step
    s: Tensor  # (T + 1, n, R, B, S) internal states
    g: Tensor  # (T, n, R, B, S) squashed cell inputs
    h: Tensor  # (T, n, R, B, S) squashed internal states


class MemoryBlocks(nn.Module):
    """`trials` nets of the same form with different initial weights."""

    present: Tensor

    def __init__(self, network: Network, trials: int, seed: int = 0) -> None:
        super().__init__()
        self.network = network
        self.C, self.B = network.blocks * network.cells, network.blocks
        self.H = self.C + self.B * (1 + network.output_gates)
        biased = {"gates": self.H - self.C, "cells": self.C}
        self.biases = sum(count for name, count in biased.items() if name in network.biased)  # gates come last
        sources = network.inputs + self.H * network.recurrent + (self.biases > 0)
        outputs = network.inputs * network.shortcut + self.C + ("outputs" in network.biased)
        # (n, sources, H): w from inputs, cells and gates, bias; (n, sources, K): w from inputs, cells, bias.
        self.hidden = nn.Parameter(torch.empty(trials, sources, self.H), requires_grad=False)
        self.output = nn.Parameter(torch.empty(trials, outputs, network.outputs), requires_grad=False)
        for trial in range(trials):
            self._start(trial, np.random.default_rng([seed, trial, 3]))
        self.register_buffer("present", torch.full((trials,), 1.0 - network.late_blocks))

    def _start(self, trial: int, random: np.random.Generator) -> None:
        """Initial weights of a trial, drawn from its own numbers."""
        network = self.network
        for weights in (self.hidden[trial], self.output[trial]):
            weights.copy_(torch.from_numpy(random.uniform(-network.initial, network.initial, weights.shape)))
        if self.biases:
            self.hidden[trial, -1, : self.H - self.biases] = 0
        for first, biases in ((self.C, network.input_gate_bias), (self.C + self.B, network.output_gate_bias)):
            if biases:
                self.hidden[trial, -1, first : first + self.B] = torch.tensor(biases)

    @property
    def weights(self) -> int:
        """Number of weights of one net, as the paper counts them."""
        unused = (self.H - self.biases) if self.biases else 0
        return self.hidden[0].numel() - unused + self.output[0].numel()

    def take(self, trials: Tensor) -> "MemoryBlocks":
        """A copy of the trials (m,)."""
        part = MemoryBlocks(self.network, 0)
        part.hidden, part.output = (nn.Parameter(w[trials], requires_grad=False) for w in (self.hidden, self.output))
        part.present = self.present[trials]
        return part

    def put(self, trials: Tensor, part: "MemoryBlocks") -> None:
        """Takes the weights of the trials (m,) from `part`, a copy of them that has learned."""
        self.hidden[trials], self.output[trials] = part.hidden, part.output

    # Forward pass

    def forward(self, inputs: Tensor) -> Activations:
        """Equations (7) to (9) for symbols (n, R, T) or values (n, R, T, I)."""
        B = self.B
        net = self._input_part(inputs, self.hidden)
        if self.biases:
            net += self.hidden[:, -1:]
        steps, n, rows, _ = net.shape
        shape = (n, rows, B, self.network.cells)
        y, s = net.new_empty(steps + 1, n, rows, self.H), net.new_empty(steps + 1, *shape)
        g, h = net.new_empty(steps, *shape), net.new_empty(steps, *shape)
        y[0], s[0] = 0, 0
        recurrent = self.hidden[:, self.network.inputs :][:, : self.H] if self.network.recurrent else None
        (g_low, g_span), (h_low, h_span) = (
            (net.new_tensor(low), high - low) for low, high in (self.network.g, self.network.h or (0.0, 1.0))
        )
        y_c, y_in, y_out = self._parts(y[1:])
        views = (net, y, y[1:], y_c, y_in, y_out, s, s[1:], g, h)
        for net_t, before, now, y_c_t, in_t, out_t, s_before, s_t, g_t, h_t in zip(
            *[v.unbind() for v in views], strict=False
        ):
            if recurrent is not None:
                net_t = torch.baddbmm(net_t, before, recurrent, out=now)
            torch.sigmoid(net_t, out=now)
            torch.add(g_low, y_c_t, alpha=g_span, out=g_t)  # (5); the place of y_c still holds the logistic of net_c
            torch.addcmul(s_before, in_t, g_t, out=s_t)  # (9): the constant error carousel
            if self.network.h is None:
                h_t.copy_(s_t)
            else:
                torch.add(h_low, torch.sigmoid(s_t, out=h_t), alpha=h_span, out=h_t)  # (4)
            torch.mul(out_t, h_t, out=y_c_t)
        return Activations(y, s, g, h)

    def _parts(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views of activations (T, n, R, H): cells (T, n, R, B, S), input and output gates (T, n, R, B, 1)."""
        cells, gates_in, gates_out = y.split([self.C, self.B, self.H - self.C - self.B], -1)
        if not self.network.output_gates:  # always open; shut while the block is not added yet
            gates_out = self.present[None, :, None, None].expand_as(gates_in)
        return cells.unflatten(-1, (self.B, self.network.cells)), gates_in[..., None], gates_out[..., None]

    def _input_part(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """What inputs (n, R, T) or (n, R, T, I) add to net inputs, (T, n, R, .), through the first rows of weights (n, ., .)."""
        if inputs.is_floating_point():
            return inputs.permute(2, 0, 1, 3) @ weights[:, : self.network.inputs]
        trial = torch.arange(len(weights), device=weights.device)[:, None, None]
        return weights[trial, inputs].movedim(2, 0).contiguous()

    def outputs(self, a: Activations, inputs: Tensor, lengths: Tensor, every: bool) -> Tensor:
        """y_k (n, R, S, K) at every step (S = T) or at the end of each sequence (S = 1), eq. (10)."""
        x, cells = self._seen(a, inputs, lengths, every)
        first = self.network.inputs * self.network.shortcut
        net = cells @ self.output[:, first : first + self.C]
        if self.network.shortcut:
            net += self._input_part(x, self.output)
        if "outputs" in self.network.biased:
            net += self.output[:, -1:]
        return net.sigmoid_().movedim(0, 2)

    def _seen(self, a: Activations, inputs: Tensor, lengths: Tensor, every: bool) -> tuple[Tensor, Tensor]:
        """What the output layer reads at the S steps that have an output: inputs (n, R, S), cells (S, n, R, C)."""
        if every:
            return inputs, a.y[1:, ..., : self.C]
        trial, row = (torch.arange(size, device=lengths.device) for size in lengths.shape)
        place = trial[:, None], row
        return inputs[(*place, lengths - 1)][:, :, None], a.y[(lengths, *place)][None, ..., : self.C]

    # Backward pass

    def contributions(self, a: Activations, inputs: Tensor, lengths: Tensor, e_k: Tensor) -> tuple[Tensor, Tensor]:
        """Delta w / alpha of hidden and output weights, from e_k (n, R, S, K), eq. (19): the sum over all time steps.

        S = T, or S = 1 for errors at the sequences' ends. e_k is 0 after a sequence's end.
        """
        every = e_k.shape[2] > 1
        x, cells = self._seen(a, inputs, lengths, every)
        e_k = e_k.movedim(2, 0)
        first = self.network.inputs * self.network.shortcut
        parts = [self._input_sums(x, e_k)] if self.network.shortcut else []
        parts += [sums(cells, e_k)]  # (22), l = k
        parts += [e_k.sum((0, 2))[:, None]] if "outputs" in self.network.biased else []
        output = torch.cat(parts, 1)
        e_c = e_k @ self.output[:, first : first + self.C].transpose(1, 2)  # sum over k of w_kc e_k, at cell outputs
        if not every:
            ends = (lengths - 1)[None, ..., None].expand_as(e_c)
            e_c = e_c.new_zeros(len(a.g), *e_c.shape[1:]).scatter_(0, ends, e_c)
        delta = self._hidden_errors(a, e_c.unflatten(-1, (self.B, self.network.cells)))
        parts = [self._input_sums(inputs, delta)]
        parts += [sums(a.y[:-1], delta)] if self.network.recurrent else []
        if self.biases:
            bias = delta.sum((0, 2))[:, None]
            bias[..., : self.H - self.biases] = 0
            parts.append(bias)
        return torch.cat(parts, 1), output

    def _hidden_errors(self, a: Activations, e_c: Tensor) -> Tensor:
        """(T, n, R, H): what y^m(t-1) is multiplied with in the sum over t that is Delta w_lm / alpha, l a cell or a gate."""
        _, y_in, y_out = self._parts(a.y[1:])
        e_s = y_out * e_c  # (23)
        if self.network.h is not None:
            e_s = e_s * slope(a.h, self.network.h)
        # In (26) and (28) the error of each step multiplies a sum over all steps before it, (25) and (27): seen from
        # a step of that sum, the errors of all steps after it. Error flows back through the carousel unscaled.
        e_s = e_s.flip(0).cumsum(0).flip(0)
        errors = [
            (e_s * y_in * slope(a.g, self.network.g)).flatten(-2),  # (27), (28)
            (e_s * a.g).sum(-1) * slope(y_in[..., 0]),  # (25), (26)
        ]
        if self.network.output_gates:
            errors.append((a.h * e_c).sum(-1) * slope(y_out[..., 0]))  # (21)
        return torch.cat(errors, -1)

    def _input_sums(self, inputs: Tensor, errors: Tensor) -> Tensor:
        """(n, I, .) sums over T and R of input times error (T, n, R, .)."""
        if inputs.is_floating_point():
            return sums(inputs.permute(2, 0, 1, 3), errors)
        n, size = len(inputs), self.network.inputs
        rows = inputs + torch.arange(0, n * size, size, device=inputs.device)[:, None, None]
        by_symbol = torch.ops.aten.embedding_dense_backward(errors, rows.movedim(2, 0), n * size, -1, False)
        return by_symbol.view(n, size, -1)

    # Learning

    @torch.no_grad()
    def learn(self, sequences: Sequences, rate: float, update: str = "sequence") -> Tensor:
        """On-line learning of N sequences of each trial, one after the other; returns the outputs before each update (n, N, S, K)."""
        n = len(sequences.lengths)
        multiple = LANES // math.gcd(LANES, self.H, self.C, self.network.outputs)
        filled = torch.arange(n + -n % multiple, device=self.hidden.device) % n
        part, drawn = self.take(filled), sequences[filled]
        outputs = [part._update(drawn[:, i : i + 1], rate, update) for i in range(drawn.lengths.shape[1])]
        self.hidden.copy_(part.hidden[:n])
        self.output.copy_(part.output[:n])
        return torch.cat(outputs, 1)[:n]

    def _update(self, one: Sequences, rate: float, update: str) -> Tensor:
        """Outputs (n, 1, S, K) for one sequence of each trial, after which weights are updated."""
        steps, every = int(one.lengths.max()), one.targets.shape[2] > 1
        inputs, targets = one.inputs[:, :, :steps], one.targets[:, :, :steps].to(self.hidden.dtype)
        learn = self._learn_by_step if update == "step" else self._learn_by_sequence
        y_k = learn(inputs, one.lengths, targets, every, rate)
        return nn.functional.pad(y_k, (0, 0, 0, one.targets.shape[2] - y_k.shape[2]))

    def _learn_by_sequence(self, inputs: Tensor, lengths: Tensor, targets: Tensor, every: bool, rate: float) -> Tensor:
        if inputs.is_floating_point():
            inputs = inputs.to(self.hidden.dtype)
        a = self(inputs)
        y_k = self.outputs(a, inputs, lengths, every)
        e_k = slope(y_k) * (targets - y_k)  # (19)
        if every:
            e_k = e_k * within(lengths, e_k.shape[2])[..., None]
        hidden, output = self.contributions(a, inputs, lengths, e_k)
        self.hidden.add_(hidden, alpha=rate)
        self.output.add_(output, alpha=rate)
        return y_k

    def _learn_by_step(self, inputs: Tensor, lengths: Tensor, targets: Tensor, every: bool, rate: float) -> Tensor:
        """Weights change at every step with an error, as A.1's Delta w(t); d s / d w is carried along, (25) and (27)."""
        C, B, S, network = self.C, self.B, self.network.cells, self.network
        n, steps = len(inputs), inputs.shape[2]
        y, s = self.hidden.new_zeros(n, self.H), self.hidden.new_zeros(n, B, S)
        carried = self.hidden.new_zeros(n, self.hidden.shape[1], 2 * C)  # d s / d w_c, then d s / d w_in
        symbols = not inputs.is_floating_point()
        xs = (inputs if symbols else inputs.to(y.dtype))[:, 0].unbind(1)
        one = y.new_ones(n, 1)
        taught = within(lengths, steps) if every else nn.functional.one_hot(lengths - 1, steps)
        taught = taught[:, 0].to(y.dtype)
        w_c = self.output[:, network.inputs * network.shortcut :][:, :C]
        outputs = []
        for t, x in enumerate(xs):
            others = torch.cat([one[:, :0], *([y] if network.recurrent else []), *([one] if self.biases else [])], 1)
            y = self._net(self.hidden, x, others).sigmoid_()
            y_c, y_in, y_out = (part[0, :, 0] for part in self._parts(y[None, :, None]))
            g = network.g[0] + (network.g[1] - network.g[0]) * y_c
            s = s + y_in * g
            h = s if network.h is None else network.h[0] + (network.h[1] - network.h[0]) * s.sigmoid()
            h_slope = torch.ones_like(h) if network.h is None else slope(h, network.h)
            slopes = torch.cat([y_in * slope(g, network.g), g * slope(y_in)], 1)
            self._add(carried, x, others, slopes.view(n, 2 * C))
            if self.biases:
                carried[:, -1, : self.H - self.biases] = 0  # cells without biases
            y_c.copy_(y_out * h)
            seen = torch.cat([y[:, :C], *([one] if "outputs" in network.biased else [])], 1)
            y_k = self._net(self.output, x if network.shortcut else None, seen).sigmoid_()
            outputs.append(y_k)
            e_k = slope(y_k) * (targets[:, 0, t if every else 0] - y_k) * taught[:, t, None]  # (19)
            e_c = torch.bmm(w_c, e_k[:, :, None]).view(n, B, S)
            e_s = (y_out * h_slope * e_c).view(n, 1, C)  # (23)
            parts = [e_s * carried[..., :C], (e_s * carried[..., C:]).unflatten(-1, (B, S)).sum(-1)]  # (28), (26)
            self.hidden[..., : C + B].add_(torch.cat(parts, -1), alpha=rate)
            if network.output_gates:
                e_out = (h * e_c).sum(-1) * slope(y_out[..., 0])  # (21)
                self._add(self.hidden[..., C + B :], x, others, rate * e_out)
            self._add(self.output, x if network.shortcut else None, seen, rate * e_k)  # (22)
        y_k = torch.stack(outputs, 1)[:, None]
        return y_k if every else at_end(y_k, lengths)[:, :, None]

    def _net(self, weights: Tensor, x: Tensor | None, others: Tensor) -> Tensor:
        """Net inputs (n, .) of one step from weights (n, M, .): rows of the input x, symbols (n,) or values (n, I), then of others."""
        if x is None:
            return torch.bmm(others[:, None], weights)[:, 0]
        below = weights[:, self.network.inputs :]
        net = (
            torch.bmm(x[:, None], weights[:, : self.network.inputs])
            if x.is_floating_point()
            else weights[torch.arange(len(x), device=x.device), x][:, None]
        )
        return (torch.baddbmm(net, others[:, None], below) if others.shape[1] else net)[:, 0]

    def _add(self, weights: Tensor, x: Tensor | None, others: Tensor, errors: Tensor) -> None:
        """Adds the products of these sources with errors (n, .) to weights; of a symbol, only its own row changes."""
        if x is not None:
            inputs, weights = weights[:, : self.network.inputs], weights[:, self.network.inputs :]
            if x.is_floating_point():
                inputs.baddbmm_(x[:, :, None], errors[:, None])
            else:
                inputs[torch.arange(len(x), device=x.device), x] += errors
        if others.shape[1]:
            weights.baddbmm_(others[:, :, None], errors[:, None])

    @torch.no_grad()
    def answer(self, sequences: Sequences) -> Tensor:
        """Outputs (n, N, S, K) for N sequences of each trial, without learning."""
        inputs = sequences.inputs
        if inputs.is_floating_point():
            inputs = inputs.to(self.hidden.dtype)
        return self.outputs(self(inputs), inputs, sequences.lengths, sequences.targets.shape[2] > 1)


def slope(y: Tensor, bounds: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """The derivative, at its result y, of the logistic with that range: f', g' or h'."""
    low, high = bounds
    return (y - low) * (high - y) / (high - low)


def sums(sources: Tensor, errors: Tensor) -> Tensor:
    """(n, M, H) sums over T and R of sources (T, n, R, M) times errors (T, n, R, H)."""
    steps, width = -sources.shape[0] * sources.shape[2] % LANES, -errors.shape[-1] % LANES  # rows begin at whole lanes
    left = nn.functional.pad(sources.permute(1, 3, 0, 2).flatten(2), (0, steps))
    right = nn.functional.pad(errors.transpose(0, 1).flatten(1, 2), (0, width, 0, steps))
    return (left @ right)[..., : errors.shape[-1]]


def within(lengths: Tensor, steps: int) -> Tensor:
    """(n, R, T) which steps are part of a sequence."""
    return torch.arange(steps, device=lengths.device) < lengths[..., None]
