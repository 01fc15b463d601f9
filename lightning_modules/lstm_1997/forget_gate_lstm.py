"""The LSTM with forget gate (Gers, Schmidhuber & Cummins 2000), for comparison with the memory blocks of 1997."""

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import InputError
from data.long_lag import Network, Sequences, at_end


class ForgetGateLSTM(nn.Module):
    """`torch.nn.LSTM` (forget gate, full gradient) with as many cells, a logistic output layer, on-line SGD.

    It takes from the task's network the inputs, the outputs, the cells (blocks x cells, each with its own gates) and the range
    +-`initial`. All weights and biases start uniform in that range, but for the forget gates' bias. torch adds two of them: one
    starts at `forget_bias`, one uniform. A positive one lets cells remember at first (Gers, Schmidhuber & Cummins 2000).

    Nothing else is the network's: every unit is biased, no gate starts with the task's bias, g and h are tanh, and no shortcut
    leads from input to output. Trials share no computation here: each is a module of its own.
    """

    def __init__(self, network: Network, trials: int, seed: int = 0, forget_bias: float = 1.0) -> None:
        super().__init__()
        self.network = network
        cells = network.blocks * network.cells
        self.nets = nn.ModuleList(
            nn.ModuleList([nn.LSTM(network.inputs, cells, batch_first=True), nn.Linear(cells, network.outputs)])
            for _ in range(trials)
        )
        for trial, net in enumerate(self.nets):
            random = np.random.default_rng([seed, trial, 3])
            for name, p in net.named_parameters():
                p.data = torch.from_numpy(random.uniform(-network.initial, network.initial, p.shape)).float()
                if name == "0.bias_ih_l0":
                    p.data[cells : 2 * cells] = forget_bias

    @property
    def weights(self) -> int:
        """Number of weights of one net."""
        return sum(p.numel() for p in self.nets[0].parameters())

    def take(self, trials: Tensor) -> "ForgetGateLSTM":
        """The trials (m,), which share their weights with these."""
        part = ForgetGateLSTM(self.network, 0)
        part.nets = nn.ModuleList(self.nets[i] for i in trials.tolist())
        return part

    def put(self, trials: Tensor, part: "ForgetGateLSTM") -> None:
        """Nothing to do: `take` shares the weights."""

    def learn(self, sequences: Sequences, rate: float, update: str = "sequence") -> Tensor:
        """As `MemoryBlocks.learn`, with the full gradient and one update a sequence."""
        if update != "sequence":
            raise InputError(
                "long_lag: the variant 'forget_gate' learns a sequence at a time; set update to 'sequence'"
            )
        every = sequences.targets.shape[2] > 1
        outputs = torch.zeros_like(sequences.targets)
        for trial, net in enumerate(self.nets):
            for i, length in enumerate(sequences.lengths[trial].tolist()):
                y = self._run(net, sequences.inputs[trial, i : i + 1, :length])
                y = y if every else y[:, -1:]
                error = (sequences.targets[trial, i, : y.shape[1]] - y[0]).square().sum() / 2
                gradients = torch.autograd.grad(error, list(net.parameters()))
                with torch.no_grad():
                    torch._foreach_add_(list(net.parameters()), gradients, alpha=-rate)
                    outputs[trial, i, : y.shape[1]] = y[0]
        return outputs

    @torch.no_grad()
    def answer(self, sequences: Sequences) -> Tensor:
        """Outputs (n, N, S, K) for N sequences of each trial, without learning."""
        outputs = torch.stack([self._run(net, inputs) for net, inputs in zip(self.nets, sequences.inputs, strict=True)])
        return outputs if sequences.targets.shape[2] > 1 else at_end(outputs, sequences.lengths)[:, :, None]

    def _run(self, net: nn.Module, inputs: Tensor) -> Tensor:
        lstm, output = net.children()
        if not inputs.is_floating_point():
            inputs = nn.functional.one_hot(inputs, self.network.inputs).float()
        y: Tensor = output(lstm(inputs)[0]).sigmoid()
        return y
