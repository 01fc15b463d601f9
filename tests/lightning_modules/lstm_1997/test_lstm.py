"""The 1997 memory blocks against the equations of the paper's appendix A.1, written out one weight at a time."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core.errors import InputError
from data.long_lag import Network, Sequences, side_by_side, task
from lightning_modules.lstm_1997.forget_gate_lstm import ForgetGateLSTM
from lightning_modules.lstm_1997.lstm import MemoryBlocks

NETWORKS = {
    "all biased": Network(inputs=3, outputs=2, blocks=2, cells=2, biased=("gates", "cells", "outputs"), initial=0.8),
    "gates biased": Network(inputs=3, outputs=3, blocks=2, cells=1, biased=("gates",), initial=0.8),
    "no biases": Network(inputs=2, outputs=2, blocks=1, cells=3, initial=0.8),
    "other ranges": Network(inputs=2, outputs=2, blocks=2, biased=("gates",), g=(-1, 1), h=(-2, 2), initial=0.8),
    "input gate only": Network(
        inputs=3, outputs=3, blocks=2, cells=2, output_gates=False, recurrent=False, shortcut=True, g=(0, 1), h=None, initial=0.8
    ),
    "input gate only, recurrent": Network(inputs=2, outputs=2, blocks=1, output_gates=False, shortcut=True, initial=0.8),
}  # fmt: skip


def f(x: float) -> float:
    return 1 / (1 + math.exp(-x))


class Naive:
    """One net, one sequence, one weight at a time. Sources of cells and gates, and of outputs, are named as units."""

    def __init__(self, network: Network, hidden: Tensor, output: Tensor) -> None:
        self.n = network
        self.cells = [("c", j, v) for j in range(network.blocks) for v in range(network.cells)]
        self.ins = [("in", j) for j in range(network.blocks)]
        self.outs = [("out", j) for j in range(network.blocks)] if network.output_gates else []
        self.inputs = [("x", i) for i in range(network.inputs)]
        hidden_units = [*self.cells, *self.ins, *self.outs]
        self.sources = [
            *self.inputs,
            *(hidden_units if network.recurrent else []),
            *([("bias",)] if network.biased else []),
        ]
        self.seen = [
            *(self.inputs if network.shortcut else []),
            *self.cells,
            *([("bias",)] if "outputs" in network.biased else []),
        ]
        kinds = {"gates": [*self.ins, *self.outs], "cells": self.cells}
        biased = [u for name, units in kinds.items() if name in network.biased for u in units]
        self.w = {
            (to, of): hidden[a, b].item()
            for a, of in enumerate(self.sources)
            for b, to in enumerate(hidden_units)
            if of != ("bias",) or to in biased
        }
        self.w |= {
            (("k", k), of): output[a, k].item() for a, of in enumerate(self.seen) for k in range(network.outputs)
        }
        self.hidden_units = hidden_units

    def g(self, x: float) -> float:
        low, high = self.n.g
        return low + (high - low) * f(x)

    def g_slope(self, x: float) -> float:
        return (self.n.g[1] - self.n.g[0]) * f(x) * (1 - f(x))

    def h(self, s: float) -> float:
        return s if self.n.h is None else self.n.h[0] + (self.n.h[1] - self.n.h[0]) * f(s)

    def h_slope(self, s: float) -> float:
        return 1.0 if self.n.h is None else (self.n.h[1] - self.n.h[0]) * f(s) * (1 - f(s))

    def run(self, xs: list[list[float]], targets: list[list[float] | None], rate: float = 0.0) -> dict:
        """Sum of all steps' Delta w / alpha; with a rate, every step's Delta w is applied at once."""
        y = dict.fromkeys(self.hidden_units, 0.0)
        s = dict.fromkeys(self.cells, 0.0)
        ds = {(c, to, of): 0.0 for c in self.cells for (to, of) in self.w if to in (c, ("in", c[1]))}
        total = dict.fromkeys(self.w, 0.0)
        self.states: list[dict] = []
        self.answers: list[list[float]] = []
        for x, target in zip(xs, targets, strict=True):
            before = {**y, ("bias",): 1.0, **{("x", i): value for i, value in enumerate(x)}}
            net = {
                to: sum(self.w[to, of] * before[of] for of in self.sources if (to, of) in self.w)
                for to in self.hidden_units
            }
            y_in = {j: f(net["in", j]) for _, j in self.ins}  # (7)
            y_out = {j: f(net["out", j]) if self.outs else 1.0 for j in range(self.n.blocks)}  # (8)
            for c in self.cells:
                s[c] = s[c] + y_in[c[1]] * self.g(net[c])  # (9)
                y[c] = y_out[c[1]] * self.h(s[c])
            for c, to, of in ds:
                j = c[1]
                if to == c:  # (27)
                    ds[c, to, of] += self.g_slope(net[c]) * y_in[j] * before[of]
                else:  # (25)
                    ds[c, to, of] += self.g(net[c]) * y_in[j] * (1 - y_in[j]) * before[of]
            for j in range(self.n.blocks):
                y["in", j] = y_in[j]
                if self.outs:
                    y["out", j] = y_out[j]
            now = {**y, ("bias",): 1.0, **{("x", i): value for i, value in enumerate(x)}}
            y_k = [f(sum(self.w[("k", k), of] * now[of] for of in self.seen)) for k in range(self.n.outputs)]  # (10)
            self.states.append(dict(s))
            self.answers.append(y_k)
            if target is None:
                continue
            e_k = [y_k[k] * (1 - y_k[k]) * (target[k] - y_k[k]) for k in range(self.n.outputs)]  # (19)
            back = {c: sum(self.w[("k", k), c] * e_k[k] for k in range(self.n.outputs)) for c in self.cells}
            e_s = {c: y_out[c[1]] * self.h_slope(s[c]) * back[c] for c in self.cells}  # (23)
            change = {}
            for to, of in self.w:
                if to[0] == "k":
                    change[to, of] = e_k[to[1]] * now[of]  # (22)
                elif to[0] == "out":  # (21), (22)
                    j = to[1]
                    e_out = y_out[j] * (1 - y_out[j]) * sum(self.h(s[c]) * back[c] for c in self.cells if c[1] == j)
                    change[to, of] = e_out * before[of]
                elif to[0] == "in":  # (26)
                    change[to, of] = sum(e_s[c] * ds[c, to, of] for c in self.cells if c[1] == to[1])
                else:  # (28)
                    change[to, of] = e_s[to] * ds[to, to, of]
            for key, value in change.items():
                total[key] += value
                self.w[key] += rate * value
        return total

    def matrices(self, values: dict) -> tuple[Tensor, Tensor]:
        """Values by weight in the form of `MemoryBlocks`."""
        hidden = [[values.get((to, of), 0.0) for to in self.hidden_units] for of in self.sources]
        output = [[values[("k", k), of] for k in range(self.n.outputs)] for of in self.seen]
        return torch.tensor(hidden).double(), torch.tensor(output).double()


@pytest.fixture(autouse=True)
def double() -> object:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def blocks(network: Network, trials: int = 3) -> MemoryBlocks:
    net = MemoryBlocks(network, trials, seed=5).double()
    net.present.fill_(1)
    return net


def drawn(network: Network, trials: int, rows: int, every: bool, symbols: bool = False, steps: int = 6) -> Sequences:
    torch.manual_seed(2)
    lengths = torch.randint(2, steps + 1, (trials, rows))
    lengths[0, 0] = steps
    inputs = (
        torch.randint(network.inputs, (trials, rows, steps))
        if symbols
        else torch.randn(trials, rows, steps, network.inputs)
    )
    targets = torch.rand(trials, rows, steps if every else 1, network.outputs)
    return Sequences(inputs, lengths, targets, targets)


def as_lists(network: Network, sequences: Sequences, trial: int, row: int) -> tuple[list, list]:
    length = int(sequences.lengths[trial, row])
    inputs = sequences.inputs[trial, row, :length]
    if not inputs.is_floating_point():
        inputs = torch.nn.functional.one_hot(inputs, network.inputs)
    targets = sequences.targets[trial, row].tolist()
    return inputs.tolist(), targets[:length] if len(targets) > 1 else [None] * (length - 1) + targets


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("symbols", [True, False])
def test_truncated_derivatives_equal_the_appendixs(name: str, every: bool, symbols: bool) -> None:
    network = NETWORKS[name]
    net, sequences = blocks(network), drawn(network, 3, 1, every, symbols)
    a = net(sequences.inputs)
    y = net.outputs(a, sequences.inputs, sequences.lengths, every)
    inside = torch.arange(y.shape[2]) < (sequences.lengths[..., None] if every else 1)
    e = y * (1 - y) * (sequences.targets - y) * inside[..., None]
    hidden, output = net.contributions(a, sequences.inputs, sequences.lengths, e)
    for trial in range(3):
        naive = Naive(network, net.hidden[trial], net.output[trial])
        expected = naive.matrices(naive.run(*as_lists(network, sequences, trial, 0)))
        length = int(sequences.lengths[trial, 0])
        answers = torch.tensor(naive.answers)
        torch.testing.assert_close(y[trial, 0, :length], answers if every else answers[-1:], rtol=1e-9, atol=1e-12)
        for change, expected_change in zip((hidden[trial], output[trial]), expected, strict=True):
            assert expected_change.abs().max() > 1e-4
            torch.testing.assert_close(change, expected_change, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("update", ["sequence", "step"])
@pytest.mark.parametrize("every", [True, False])
def test_on_line_learning_equals_the_naive_loop(name: str, update: str, every: bool) -> None:
    network = NETWORKS[name]
    net, sequences = blocks(network), drawn(network, 3, 4, every, symbols=True)
    start = net.hidden.clone(), net.output.clone()
    outputs = net.learn(sequences, 0.5, update)
    for trial in range(3):
        naive = Naive(network, start[0][trial], start[1][trial])
        for row in range(4):
            change = naive.run(*as_lists(network, sequences, trial, row), rate=0.5 if update == "step" else 0)
            if update == "sequence":
                naive.w = {key: w + 0.5 * change[key] for key, w in naive.w.items()}
            answers = torch.tensor(naive.answers if every else naive.answers[-1:])
            torch.testing.assert_close(outputs[trial, row, : len(answers)], answers, rtol=1e-8, atol=1e-10)
        for weights, expected in zip((net.hidden[trial], net.output[trial]), naive.matrices(naive.w), strict=True):
            torch.testing.assert_close(weights, expected, rtol=1e-8, atol=1e-10)


class Written(TorchDispatchMode):
    """Counts the numbers that operations give."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.numbers += sum(value.numel() for value in tree_leaves(result) if isinstance(value, Tensor))
        return result


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("update", ["sequence", "step"])
def test_a_step_costs_the_same_however_many_came_before(name: str, update: str) -> None:
    """Section 4: O(W) a time step, "local in space and time"."""
    costs = []
    for steps in (64, 128, 192):  # whole lanes: sums over time are padded to them
        with Written() as work:
            blocks(NETWORKS[name], 1).learn(drawn(NETWORKS[name], 1, 1, every=True, steps=steps), 0.5, update)
        costs.append(work.numbers)
    assert costs[2] - costs[1] == costs[1] - costs[0] > 0


def test_they_are_autograds_derivatives_where_nothing_flows_back_into_net_inputs() -> None:
    """The same net with y(t-1) detached before cells and gates see it, differentiated by autograd."""
    network = NETWORKS["all biased"]
    net, sequences = blocks(network, 2), drawn(network, 2, 3, every=False)
    hidden, output = (w.detach().clone().requires_grad_() for w in (net.hidden, net.output))
    y, s = torch.zeros(2, 3, net.H), torch.zeros(2, 3, 2, 2)
    one = torch.ones(2, 3, 1)
    errors = []
    for t in range(sequences.inputs.shape[2]):
        a = (torch.cat([sequences.inputs[:, :, t], y.detach(), one], -1) @ hidden).sigmoid()
        cell, y_in, y_out = a.split([4, 2, 2], -1)
        s = s + y_in[..., None] * (4 * cell.unflatten(-1, (2, 2)) - 2)
        y = torch.cat([(y_out[..., None] * torch.tanh(s / 2)).flatten(-2), y_in, y_out], -1)
        y_k = (torch.cat([y[..., :4], one], -1) @ output).sigmoid()
        ends = (sequences.lengths == t + 1)[..., None]
        errors.append(((sequences.targets[:, :, 0] - y_k) ** 2 / 2 * ends).sum())
    gradients = torch.autograd.grad(sum(errors), [hidden, output])
    a = net(sequences.inputs)
    y_k = net.outputs(a, sequences.inputs, sequences.lengths, False)
    changes = net.contributions(a, sequences.inputs, sequences.lengths, y_k * (1 - y_k) * (sequences.targets - y_k))
    for mine, theirs in zip(changes, gradients, strict=True):
        torch.testing.assert_close(mine, -theirs, rtol=1e-9, atol=1e-12)


def test_the_carousel_carries_error_unscaled_over_a_thousand_steps() -> None:
    """A.2: the derivative of the last state by an early cell input does not depend on the steps between; nn.LSTM's does."""
    network = Network(inputs=2, outputs=1, blocks=1, recurrent=False, initial=0.5)
    net = blocks(network, 1)
    gradients = []
    for lag in (1, 10, 1000):
        x = torch.zeros(1, 1, lag + 1, 2)
        x[0, 0, 0, 0] = 1.0  # input 0 is active in the first step only: its weights' derivatives come from there
        a = net(x)
        ends = torch.tensor([[lag + 1]])
        hidden, _ = net.contributions(a, x, ends, torch.ones(1, 1, 1, 1))
        s_end, y_out = a.s[-1].flatten(), a.y[-1, 0, 0, 2]
        e_s = y_out * (0.5 - 0.5 * torch.tanh(s_end / 2) ** 2) * net.output[0, 0, 0]  # as it enters the carousel, (23)
        gradients.append(hidden[0, 0, :2] / e_s)  # cell and input gate
    torch.testing.assert_close(gradients[0], gradients[2], rtol=1e-9, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=0)

    lstm = torch.nn.LSTM(2, 1, batch_first=True)
    flows = []
    for lag in (1, 1000):
        x = torch.zeros(1, lag + 1, 2, requires_grad=True)
        flows.append(torch.autograd.grad(lstm(x)[1][1].sum(), x)[0][0, 0].abs().max())
    assert flows[1] < 1e-9 * flows[0]


def test_states_add_up_without_forgetting() -> None:
    net, sequences = blocks(NETWORKS["no biases"], 1), drawn(NETWORKS["no biases"], 1, 1, every=False)
    a = net(sequences.inputs)
    added = a.y[1:, ..., net.C : net.C + net.B, None] * a.g
    torch.testing.assert_close(a.s[1:], added.cumsum(0))
    assert a.g.abs().max() <= 2
    assert a.h.abs().max() <= 1


@pytest.mark.parametrize(
    ("name", "settings", "weights"),
    [
        ("1", {"blocks": 4, "cells": 1}, 264), ("1", {"blocks": 3, "cells": 2}, 276), ("2a", {}, 10_504), ("2b", {}, 10_504),
        ("2c", {"q": 50, "p": 50}, 364), ("2c", {"q": 100, "p": 100}, 664), ("2c", {"q": 200, "p": 200}, 1264),
        ("2c", {"q": 500, "p": 500}, 3064), ("2c", {"q": 1000, "p": 1000}, 6064), ("2c", {"q": 1000, "p": 50}, 364),
        ("3a", {}, 102), ("3b", {}, 102), ("3c", {}, 102), ("4", {}, 93), ("5", {}, 93), ("6a", {}, 156), ("6b", {}, 308),
    ],
)  # fmt: skip
def test_weight_counts_are_the_papers(name: str, settings: dict, weights: int) -> None:
    network = task(name, settings).network
    net = MemoryBlocks(network, 2)
    assert net.weights == weights
    naive = Naive(network, net.hidden[0], net.output[0])  # counts connections one by one
    assert len(naive.w) == weights


def test_weights_start_as_the_paper_says() -> None:
    net = MemoryBlocks(task("3a").network, 4, seed=1)
    bias = net.hidden[:, -1]
    assert bias[:, 3:6].tolist() == [[-1, -3, -5]] * 4
    assert bias[:, 6:].tolist() == [[-2, -4, -6]] * 4
    rest = torch.cat([net.hidden[:, :-1].flatten(), bias[:, :3].flatten(), net.output.flatten()])
    assert 0.09 < rest.abs().max() <= 0.1
    assert len(rest.unique()) == len(rest)
    assert MemoryBlocks(task("1").network, 1).hidden[0, -1, :6].tolist() == [0] * 6  # cells have no biases there


@pytest.mark.parametrize("name", ["1", "2a", "2b", "2c", "3a", "3b", "3c", "4", "5", "6a", "6b"])
def test_weights_of_tasks_1_and_2_start_in_a_wider_range(name: str) -> None:
    network = task(name).network
    bound = 0.2 if name[0] in "12" else 0.1
    net = MemoryBlocks(network, 2, seed=1)
    drawn = torch.cat(
        [net.hidden[:, : network.inputs].flatten(), net.output.flatten()]
    )  # without biases that are given
    assert bound * 0.8 < drawn.abs().max() <= bound


@pytest.mark.parametrize("name", ["1", "2a", "2c", "3a", "4", "6a"])
@pytest.mark.parametrize("update", ["sequence", "step"])
def test_a_trial_learns_the_same_whatever_runs_beside_it(name: str, update: str) -> None:
    """To the last bit, in single precision, with sequences of other lengths beside it."""
    chosen = task(name, {"p": 20} if name == "2a" else {})
    sequences = [chosen.training(7, trial, 0)[:6] for trial in range(5)]
    together = MemoryBlocks(chosen.network, 5, seed=7).float()
    together.present.fill_(1)
    alone = together.take(torch.tensor([3]))
    several = together.take(torch.tensor([4, 3]))
    together.learn(side_by_side(sequences), chosen.learning_rate, update)
    alone.learn(side_by_side(sequences[3:4]), chosen.learning_rate, update)
    several.learn(side_by_side([sequences[4], sequences[3]]), chosen.learning_rate, update)
    for expected, *others in (
        (together.hidden[3], alone.hidden[0], several.hidden[1]),
        (together.output[3], alone.output[0], several.output[1]),
    ):
        for weights in others:
            assert torch.equal(weights, expected)


def test_late_blocks_neither_answer_nor_learn_before_they_are_added() -> None:
    chosen = task("2a", {"p": 8})
    net = MemoryBlocks(chosen.network, 2).double()
    hidden, output = net.hidden.clone(), net.output.clone()
    net.learn(side_by_side([chosen.training(0, trial, 0) for trial in range(2)]), 1.0)
    assert torch.equal(net.hidden, hidden)
    assert torch.equal(net.output[:, -1], output[:, -1])  # the cell's weights to the outputs
    assert not torch.equal(net.output, output)


def test_the_variant_with_forget_gate_learns_by_the_full_gradient() -> None:
    network = NETWORKS["all biased"]
    net, sequences = ForgetGateLSTM(network, 2, seed=1).double(), drawn(network, 2, 1, every=False)
    before = [p.detach().clone() for p in net.nets[1].parameters()]
    y = net.answer(sequences)
    outputs = net.learn(sequences, 0.5)
    torch.testing.assert_close(outputs, y)
    lstm, output = ForgetGateLSTM(network, 2, seed=1).double().nets[1]
    x = sequences.inputs[1, :, : sequences.lengths[1, 0]]
    error = (sequences.targets[1, 0] - output(lstm(x)[0][:, -1]).sigmoid()).square().sum() / 2
    error.backward()
    for p, old, reference in zip(
        net.nets[1].parameters(), before, [*lstm.parameters(), *output.parameters()], strict=True
    ):
        torch.testing.assert_close(p, old - 0.5 * reference.grad)
    (lstm, _), cells = ForgetGateLSTM(network, 1).nets[0], network.blocks * network.cells
    forget = slice(cells, 2 * cells)
    assert lstm.bias_ih_l0[forget].tolist() == [1] * cells
    for bias in (lstm.bias_ih_l0[:cells], lstm.bias_ih_l0[2 * cells :], lstm.bias_hh_l0):
        assert 0 < bias.abs().min() <= bias.abs().max() <= network.initial
    with pytest.raises(InputError, match="set update to 'sequence'"):
        net.learn(sequences, 0.5, "step")
