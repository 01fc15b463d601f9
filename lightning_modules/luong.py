"""Global attention with input feeding (Luong, Pham & Manning 2015).

Differences from the paper: none in the equations. The local variants and the score `location` are not here yet.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from data.tokenizer import PAD
from lightning_modules.optimization import Optimizer, Schedule
from lightning_modules.translator import Memory, State, Step, Translator, TranslatorSettings, TranslatorTraining


class Training(TranslatorTraining):
    """The paper's (4.1) with dropout."""

    optimizer: Optimizer = "sgd"
    schedule: Schedule = "halving"
    learning_rate: float = 1.0
    halve_after: float = 8
    epochs: int = 12
    clip_norm: float | None = 5.0


class LuongSettings(TranslatorSettings):
    """Sizes; the paper's: 4 layers of 1000 cells, embeddings of 1000, dropout .2, weights uniform in +-.1."""

    layers: int = Field(default=1, ge=1)
    embedding: int = Field(default=256, ge=1)
    hidden: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    score: Literal["dot", "general", "concat"] = "general"
    input_feeding: bool = True
    reverse_source: bool = True
    init: float = Field(default=0.1, gt=0)
    training: Training = Training()


class Luong(Translator):
    """Stacked LSTM encoder and decoder; the decoder's top state attends to the encoder's."""

    Settings = LuongSettings

    def __init__(self, settings: LuongSettings, vocabulary: int) -> None:
        super().__init__()
        self.settings = settings
        e, h = settings.embedding, settings.hidden
        self.source_embedding = nn.Embedding(vocabulary, e)
        self.target_embedding = nn.Embedding(vocabulary, e)
        self.encoder = nn.LSTM(
            e, h, settings.layers, batch_first=True, dropout=settings.dropout if settings.layers > 1 else 0
        )
        self.decoder = nn.LSTM(
            e + h * settings.input_feeding,
            h,
            settings.layers,
            batch_first=True,
            dropout=settings.dropout if settings.layers > 1 else 0,
        )
        self.W_a = nn.Linear(h, h, bias=False) if settings.score != "dot" else None
        self.U_a = nn.Linear(h, h, bias=False) if settings.score == "concat" else None
        self.v_a = nn.Parameter(torch.empty(h)) if settings.score == "concat" else None
        self.W_c = nn.Linear(2 * h, h, bias=False)
        self.W_s = nn.Linear(h, vocabulary, bias=False)
        self.dropout = nn.Dropout(settings.dropout)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -settings.init, settings.init)

    @property
    def width(self) -> int:
        return self.settings.hidden

    @property
    def output(self) -> tuple[Tensor, None]:
        return self.W_s.weight, None

    def encode(self, source: Tensor) -> Memory:
        visible = source != PAD
        lengths = visible.sum(1)
        order = reversal(lengths, source.shape[1]) if self.settings.reverse_source else None
        embedded = self.dropout(self.source_embedding(source if order is None else source.gather(1, order)))
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, (h, c) = self.encoder(packed)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=source.shape[1])
        if order is not None:  # state s belongs to piece s again
            states = states.gather(1, order[..., None].expand_as(states))
        states = self.dropout(states)
        return {
            "states": states,
            "keys": self.keys(states),
            "visible": visible,
            "h": h.transpose(0, 1),
            "c": c.transpose(0, 1),
        }

    def keys(self, states: Tensor) -> Tensor:
        """What a score needs of each source state, computed once for all target positions: (B, S, h)."""
        return states if self.W_a is None else self.W_a(states)

    def attend(self, memory: Memory, h: Tensor) -> tuple[Tensor, Tensor]:
        """h~ = tanh(W_c [c; h]) (eq. 5) and the weights a (eq. 7) for decoder states h (B, N, h), N per sentence."""
        if self.v_a is not None and self.U_a is not None:  # v_a . tanh(W_a [h_s; h_t])
            scores = torch.tanh(memory["keys"][:, None] + self.U_a(h)[:, :, None]) @ self.v_a
        else:  # h_t . h_s, or h_t . W_a h_s (eq. 8)
            scores = h @ memory["keys"].transpose(1, 2)
        a = scores.masked_fill(~memory["visible"][:, None], -torch.inf).softmax(-1)  # (B, N, S)
        context = a @ memory["states"]
        return torch.tanh(self.W_c(torch.cat([context, h], -1))), a

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        embedded = self.dropout(self.target_embedding(target))
        if not self.settings.input_feeding:  # no step needs the one before it: all at once
            h, _ = self.decoder(
                embedded, (memory["h"].transpose(0, 1).contiguous(), memory["c"].transpose(0, 1).contiguous())
            )
            return self.dropout(self.attend(memory, self.dropout(h))[0])
        gates = self.input_gates(embedded)  # one product for all steps, before the loop
        state = self.start(memory, 1)
        features = []
        for t in range(target.shape[1]):
            attended, _, state = self.advance(memory, state, gates[:, t])
            features.append(attended)
        return self.dropout(torch.stack(features, 1))

    def start(self, memory: Memory, beams: int) -> State:
        rows = {name: memory[name].repeat_interleave(beams, 0) for name in ("h", "c")}  # (R, layers, h)
        if self.settings.input_feeding:
            rows["fed"] = torch.zeros_like(rows["h"][:, 0])
        return rows

    def step(self, memory: Memory, state: State, previous: Tensor) -> Step:
        return Step(*self.advance(memory, state, self.input_gates(self.target_embedding(previous))))

    def input_gates(self, embedded: Tensor) -> Tensor:
        """The embedding's share of the bottom layer's gates, biases included: (..., e) -> (..., 4h)."""
        weight, bias = self._weights(0, "ih")
        return nn.functional.linear(embedded, weight[:, : embedded.shape[-1]], bias + self._weights(0, "hh")[1])

    def advance(self, memory: Memory, state: State, gates: Tensor) -> tuple[Tensor, Tensor, State]:
        """One target position of R rows from its input gates: h~ (R, h), weights (R, S), state."""
        e = self.settings.embedding
        recurrent = [self._weights(0, "hh")[0]]
        inputs = [state["h"][:, 0]]
        if self.settings.input_feeding:  # h~ of the step before is part of the input (3.3)
            recurrent, inputs = [*recurrent, self._weights(0, "ih")[0][:, e:]], [*inputs, state["fed"]]
        gates = torch.addmm(gates, torch.cat(inputs, 1), torch.cat(recurrent, 1).t())
        hs: list[Tensor] = []
        cs: list[Tensor] = []
        for layer in range(self.settings.layers):
            if layer:
                gates = nn.functional.linear(self.dropout(hs[-1]), *self._weights(layer, "ih")) + nn.functional.linear(
                    state["h"][:, layer], *self._weights(layer, "hh")
                )
            h, c = lstm_cell(gates, state["c"][:, layer])
            hs.append(h)
            cs.append(c)
        sentences = memory["visible"].shape[0]
        top = self.dropout(hs[-1])
        attended, a = self.attend(memory, top.view(sentences, -1, top.shape[-1]))
        attended, a = attended.reshape_as(top), a.reshape(len(top), -1)
        new = {"h": torch.stack(hs, 1), "c": torch.stack(cs, 1)}
        if self.settings.input_feeding:
            new["fed"] = attended
        return attended, a, new

    def _weights(self, layer: int, kind: str) -> tuple[Tensor, Tensor]:
        return getattr(self.decoder, f"weight_{kind}_l{layer}"), getattr(self.decoder, f"bias_{kind}_l{layer}")


def lstm_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(h, c) after one step, from the gates' net inputs (R, 4h) in the order of `torch.nn.LSTM`: i, f, g, o."""
    i, f, g, o = gates.chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def reversal(lengths: Tensor, width: int) -> Tensor:
    """(B, width) indices that reverse the first `lengths` positions of each row and leave the padding where it is."""
    position = torch.arange(width, device=lengths.device)
    return torch.where(position < lengths[:, None], lengths[:, None] - 1 - position, position)
