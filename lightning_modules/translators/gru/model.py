"""The RNN Encoder-Decoder (Cho et al. 2014). Equations and symbols are the paper's; A is its appendix.

Options that differ from the paper; the preset `paper` has the paper's values:

- `reset: paper | fused`: the paper's unit, or that of `torch.nn.GRU`, r (U h + b), with a second vector of biases.
- `dropout` (paper: 0), `rank: null` (an output matrix of full rank) and `optimizer: adam` (paper: Adadelta) are for small data.
- `rank` is 100 in 4.1 and 500 in A.1.2; the preset has 100.

Choices that the paper leaves open, and fixed differences:

- It omits biases "to make the equations less cluttered". Here every gate and candidate, c, h'_0, s' and the output layer have
  one vector.
- A.1.2 prints the decoder's candidate as tanh(W' e + r' (U' h' + C c)). Eq. 8 and the authors' code (GroundHog) reset the state
  alone: eq. 8 is used in both networks.
- O_y reads the embedding of y_{t-1}, and so is a matrix of low rank, as the paper has it of all matrices of words.
- One vocabulary serves both languages, with an embedding for each.
- Batches are of about equal length under a budget of tokens, not 64 random pairs (4.1).

The paper rescores phrases (3.1): `decoding.translation.log_probabilities` does that.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from data.tokenizer import BEGIN, PAD
from lightning_modules.translators import recurrence
from lightning_modules.translators.base import Memory, State, Step, Translator
from lightning_modules.translators.gated_unit import GatedUnit
from lightning_modules.translators.gru.config import GRUConfig


class GRU(Translator):
    """One network reads the source into a summary c; another writes the target, reading c at every step."""

    Config = GRUConfig

    def __init__(self, config: GRUConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        e, n, maxout = config.embedding_dim, config.hidden_size, config.maxout_size
        unit: type[nn.GRU | GatedUnit] = nn.GRU if config.reset == "fused" else GatedUnit
        self.source_embedding = nn.Embedding(vocab_size, e)
        self.target_embedding = nn.Embedding(vocab_size, e, padding_idx=BEGIN)  # e(y_0) = 0
        self.encoder = unit(e, n)
        self.decoder = unit(e + n, n)  # its input weights are [W', C], those of the gates likewise
        self.V = nn.Linear(n, n)
        self.V_ = nn.Linear(n, n)  # V'
        self.O_h = nn.Linear(n, 2 * maxout)
        self.O_y = nn.Linear(e, 2 * maxout, bias=False)
        self.O_c = nn.Linear(n, 2 * maxout, bias=False)
        self.G_r = nn.Linear(maxout, config.rank, bias=False) if config.rank else None
        self.G_l = nn.Linear(config.rank or maxout, vocab_size)
        self.dropout = nn.Dropout(config.dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initial weights (4.1): normal(0, .01), recurrent matrices orthogonal. Biases, of which the paper says nothing, are 0."""
        for name, parameter in self.named_parameters():
            if name.endswith(("coder.U", "weight_hh_l0")):
                with torch.no_grad():
                    for recurrent in parameter.chunk(3):
                        nn.init.orthogonal_(recurrent)
            elif parameter.dim() == 1:
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.01)
        with torch.no_grad():
            self.target_embedding.weight[BEGIN] = 0

    @property
    def output(self) -> tuple[Tensor, Tensor]:
        return self.G_l.weight, self.G_l.bias

    def encode(self, source: Tensor) -> Memory:
        lengths = (source != PAD).sum(1)
        packed = pack_padded_sequence(source, lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed = packed._replace(data=self.dropout(self.source_embedding(packed.data)))
        states = recurrence.run(self.encoder, packed)[0] if isinstance(self.encoder, nn.GRU) else self.encoder(packed)
        h, _ = pad_packed_sequence(states, batch_first=True)
        c = torch.tanh(self.V(h[torch.arange(len(h), device=h.device), lengths - 1]))  # c = tanh(V h_N) (A.1.1)
        weight, bias = self.input_weights()
        gates = nn.functional.linear(c, weight[:, self.config.embedding_dim :], bias)  # C c, C_z c, C_r c
        return {"c": c, "gates": gates, "readout": self.O_c(c)}

    def input_weights(self) -> tuple[Tensor, Tensor]:
        """[W', C] of the decoder's gates (3n, e + n) and their biases."""
        if isinstance(self.decoder, nn.GRU):
            weight, _, bias, _ = self.decoder.all_weights[0]
            return weight, bias
        return self.decoder.W.weight, self.decoder.W.bias

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        y = self.dropout(self.target_embedding(target))
        h = torch.tanh(self.V_(memory["c"]))  # h'_0 = tanh(V' c) (A.1.2)
        if isinstance(self.decoder, nn.GRU):
            repeated = memory["c"][:, None].expand(-1, target.shape[1], -1)
            states, _ = recurrence.run(self.decoder, torch.cat([y, repeated], -1).transpose(0, 1), h[None])
        else:
            gates = (self.of_tokens(y) + memory["gates"][:, None]).transpose(0, 1)  # (T, B, 3n)
            steps, sentences = gates.shape[:2]
            states = self.decoder.run(gates.flatten(0, 1), h, [sentences] * steps).unflatten(0, (steps, sentences))
        return self.deep_output(states.transpose(0, 1), y, memory["readout"][:, None])

    def of_tokens(self, y: Tensor) -> Tensor:
        """W' e(y_{t-1}) of all gates: (..., e) -> (..., 3n)."""
        return nn.functional.linear(y, self.input_weights()[0][:, : self.config.embedding_dim])

    def deep_output(self, h: Tensor, y: Tensor, O_c_c: Tensor) -> Tensor:
        """G_r s (..., rank) from states h (..., n), embeddings y (..., e) and O_c c (..., 2 maxout); s where the rank is full."""
        s = self.O_h(h) + self.O_y(y) + O_c_c  # s' = O_h h_t + O_y y_{t-1} + O_c c; s is the larger of each two (A.1.2)
        s = self.dropout(torch.maximum(s[..., 0::2], s[..., 1::2]))
        return s if self.G_r is None else self.G_r(s)

    def start(self, memory: Memory, beams: int) -> State:
        h = torch.tanh(self.V_(memory["c"])).to(self.V_.weight.dtype)  # a state: never in half precision
        return {"h": h.repeat_interleave(beams, 0)}  # h'_0 = tanh(V' c) (A.1.2)

    def step(self, memory: Memory, state: State, previous: Tensor) -> Step:
        y, h, decoder = self.target_embedding(previous), state["h"], self.decoder
        beams = len(previous) // len(memory["c"])
        gates = self.of_tokens(y) + memory["gates"].repeat_interleave(beams, 0)
        h = fused_step(gates, h, decoder) if isinstance(decoder, nn.GRU) else decoder.step(gates, h)
        readout = memory["readout"].repeat_interleave(beams, 0)
        return Step(self.deep_output(h, y, readout), None, {"h": h})


def fused_step(gates: Tensor, h: Tensor, unit: nn.GRU) -> Tensor:
    """The state (R, n) of `torch.nn.GRU` after one step, from what the inputs add (R, 3n) to its gates r, z and its candidate."""
    r, z, candidate = gates.to(h.dtype).chunk(3, 1)
    _, weight, _, bias = unit.all_weights[0]
    r_h, z_h, candidate_h = nn.functional.linear(h, weight, bias).to(h.dtype).chunk(3, 1)
    candidate = torch.tanh(candidate + torch.sigmoid(r + r_h) * candidate_h)
    return torch.lerp(candidate, h, torch.sigmoid(z + z_h))


Model = GRU
