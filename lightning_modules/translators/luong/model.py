"""Global and local attention with input feeding (Luong, Pham & Manning 2015). Equations and symbols are the paper's.

Options: `attention` (3.1, 3.2), `score` (3.1), `input_feeding` (3.3) and `reverse_source` (4.1) are the paper's variants;
`normalization: batch` is its gradient, the mean over sentences, and the default the mean over target tokens. The preset `paper` has
the paper's values.

Choices that the paper leaves open follow the authors' code (github.com/lmthang/nmt.matlab):

- `local-m`, `local-p`: source positions count from 0, so p_t = S sigmoid(..) (eq. 9) is in 0 .. S. The window is
  floor(p_t) - D .. floor(p_t) + D, cut off at the ends of the sentence; its centre is never beyond the last token. The
  Gaussian (eq. 10) has its mean at p_t itself and multiplies the softmax over the window. The products are not normalised again.
- `location` (eq. 8): the softmax is over the first S rows of W_a h_t. The paper ignores the words of a longer source that W_a
  has no row for; here a source longer than `max_source_length` is an error.

Fixed differences from the paper:

- `torch.nn.LSTM` has two bias vectors a layer. Source and target share a vocabulary.
- The end token is part of the source: it can be attended to, counts as one of the S positions, and is first in a reversed
  source. In the authors' code it is last and outside.
- `concat` learns both parts of the printed W_a. In the paper's runs the source's part was the identity (footnote 15).
- Dropout is on source states, on h_t where it attends and on h~_t before the softmax; the authors' is on every LSTM input, the
  fed h~_t too.
- Local attention masks the scores of the whole sentence and gathers no window: one matrix product, and a window is about as long
  as a sentence.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from core.errors import InputError
from data.tokenizer import PAD
from lightning_modules.translators import recurrence
from lightning_modules.translators.base import Memory, State, Step, Translator, reversal
from lightning_modules.translators.luong.config import LuongConfig
from lightning_modules.translators.recurrence import fast_tanh


class Luong(Translator):
    """Stacked LSTMs as encoder and decoder; the decoder's top state attends to the encoder's top states."""

    Config = LuongConfig

    def __init__(self, config: LuongConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        e, h = config.embedding_dim, config.hidden_size
        self.source_embedding = nn.Embedding(vocab_size, e)
        self.target_embedding = nn.Embedding(vocab_size, e)
        self.encoder = nn.LSTM(
            e, h, config.num_layers, batch_first=True, dropout=config.dropout if config.num_layers > 1 else 0
        )
        self.decoder = nn.LSTM(
            e + h * config.input_feeding,
            h,
            config.num_layers,
            batch_first=True,
            dropout=config.dropout if config.num_layers > 1 else 0,
        )
        rows = config.max_source_length if config.score == "location" else h
        self.W_a = nn.Linear(h, rows, bias=False) if config.score != "dot" else None
        self.U_a = nn.Linear(h, h, bias=False) if config.score == "concat" else None
        self.v_a = nn.Parameter(torch.empty(h)) if config.score == "concat" else None
        self.W_p = nn.Linear(h, h, bias=False) if config.attention == "local-p" else None
        self.v_p = nn.Parameter(torch.empty(h)) if config.attention == "local-p" else None
        self.W_c = nn.Linear(2 * h, h, bias=False)
        self.W_s = nn.Linear(h, vocab_size, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -config.init, config.init)

    @property
    def output(self) -> tuple[Tensor, None]:
        return self.W_s.weight, None

    @property
    def aligned_step(self) -> Literal["predicted", "input"]:
        """The paper's footnote on alignments (5.3).

        Content-based weights a_t are those of the token y_{t-1} that step t reads: h_t, just made from it, is compared with the
        source's states. Location-based ones are those of y_t, which the step predicts. Trained models align otherwise: see
        docs/how-to/translators.md.
        """
        return "predicted" if self.config.score == "location" else "input"

    @property
    def longest_source(self) -> int | None:
        return self.config.max_source_length - 1 if self.config.score == "location" else None

    def encode(self, source: Tensor) -> Memory:
        visible = source != PAD
        lengths = visible.sum(1)
        if self.config.score == "location":
            self.check_length(int(lengths.max()))
        order = reversal(lengths, source.shape[1]) if self.config.reverse_source else None
        embedded = self.dropout(self.source_embedding(source if order is None else source.gather(1, order)))
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, (h, c) = recurrence.run(self.encoder, packed)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=source.shape[1])
        if order is not None:  # state s belongs to token s again
            states = states.gather(1, order[..., None].expand_as(states))
        states = self.dropout(states)
        return {
            "states": states,
            "keys": self.keys(states),
            "visible": visible,
            "lengths": lengths,
            "h": h.transpose(0, 1),
            "c": c.transpose(0, 1),
        }

    def check_length(self, length: int) -> None:
        """Raises InputError when W_a has no row for the last of `length` source tokens."""
        if length > self.config.max_source_length:
            raise InputError(
                f"luong: a source has {length} tokens with its end token, and the score 'location' is made for at most "
                f"{self.config.max_source_length}. Leave such sources out, or train with a larger max_source_length."
            )

    def keys(self, states: Tensor) -> Tensor:
        """What a score needs of each source state, computed once for all target positions: (B, S, h)."""
        return states if self.W_a is None or self.config.score == "location" else self.W_a(states)

    def attend(self, memory: Memory, h: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """h~ (B, N, h) and the weights a_t (B, N, S) of decoder states h (B, N, h), N per sentence.

        t, (B or 1, N), are the target positions of h, counted from 0.
        """
        visible = memory["visible"][:, None]
        gaussian = None
        if self.config.attention != "global":
            s, p = torch.arange(visible.shape[2], device=h.device), self.centers(memory, h, t)[..., None]
            last = memory["lengths"][:, None, None] - 1
            visible = visible & ((s - p.detach().floor().minimum(last)).abs() <= self.config.D)
            if self.config.attention == "local-p":
                gaussian = torch.exp(-2 * ((s - p) / self.config.D) ** 2)  # sigma = D / 2: -(s - p)^2 / (2 sigma^2)
        a = self.scores(memory, h).masked_fill(~visible, -torch.inf).softmax(-1)  # eq. 7
        if gaussian is not None:
            a = a * gaussian.to(a.dtype)  # eq. 10
        context = a @ memory["states"]  # c_t = sum_s a_t(s) h_s
        return fast_tanh(self.W_c(torch.cat([context, h], -1))), a  # h~ = tanh(W_c [c; h]) (eq. 5)

    def scores(self, memory: Memory, h: Tensor) -> Tensor:
        """score(h_t, h_s) (3.1), (B, N, S), of decoder states h (B, N, h)."""
        keys = memory["keys"]
        if self.v_a is not None and self.U_a is not None:  # v_a . tanh(W_a [h_s; h_t])
            return torch.tanh(keys[:, None] + self.U_a(h)[:, :, None]) @ self.v_a
        if self.config.score == "location" and self.W_a is not None:  # W_a h_t (eq. 8); padding has no rows
            scores = nn.functional.linear(h, self.W_a.weight[: keys.shape[1]])
            return nn.functional.pad(scores, (0, keys.shape[1] - scores.shape[2]))
        return h @ keys.transpose(1, 2)  # h_t . h_s, or h_t . W_a h_s

    def centers(self, memory: Memory, h: Tensor, t: Tensor) -> Tensor:
        """p_t, where the window of local attention lies: (B, N), at least in single precision."""
        if self.v_p is None or self.W_p is None:
            return t.float().expand(h.shape[:2])  # local-m: t
        fraction = torch.sigmoid((torch.tanh(self.W_p(h)) @ self.v_p).float())
        return memory["lengths"][:, None] * fraction  # local-p: S sigmoid(v_p . tanh(W_p h_t)) (eq. 9)

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        embedded = self.dropout(self.target_embedding(target))
        if not self.config.input_feeding:  # no step needs the one before it: all at once
            before = (memory[name].transpose(0, 1).contiguous() for name in ("h", "c"))
            h, _ = recurrence.run(self.decoder, embedded, *before)
            steps = torch.arange(target.shape[1], device=target.device)[None]
            return self.dropout(self.attend(memory, self.dropout(h), steps)[0])
        (w_ih, b_ih), (w_hh, b_hh), e = self._weights(0, "ih"), self._weights(0, "hh"), self.config.embedding_dim
        # What the embeddings add to the bottom layer's gates: one product for all steps, before the loop.
        inputs = nn.functional.linear(embedded, w_ih[:, :e], b_ih + b_hh)
        from_h, from_fed = w_hh.t(), w_ih[:, e:].t()
        state, features = self.start(memory, 1), []
        for gates in inputs.unbind(1):  # unlike an index, its gradient is not as large as all steps at every step
            gates = torch.addmm(torch.addmm(gates, state["h"][:, 0], from_h), state["fed"], from_fed)
            attended, _, state = self.advance(memory, state, gates)
            features.append(attended)
        return self.dropout(torch.stack(features, 1))

    def start(self, memory: Memory, beams: int) -> State:
        state = {name: memory[name].repeat_interleave(beams, 0) for name in ("h", "c")}  # (R, layers, h)
        if self.config.input_feeding:
            state["fed"] = torch.zeros_like(state["h"][:, 0])  # h~ of the step before
        state["t"] = torch.zeros(len(state["h"]), dtype=torch.long, device=state["h"].device)  # steps taken
        return state

    def step(self, memory: Memory, state: State, previous: Tensor) -> Step:
        x = self.target_embedding(previous)
        if self.config.input_feeding:
            x = torch.cat([x, state["fed"]], 1)  # the input is [y_{t-1}; h~_{t-1}] (3.3)
        return Step(*self.advance(memory, state, self._gates(0, x, state)))

    def _gates(self, layer: int, x: Tensor, state: State) -> Tensor:
        """Net inputs (R, 4h) of a layer's gates from its input and its state."""
        (w_ih, b_ih), (w_hh, b_hh) = self._weights(layer, "ih"), self._weights(layer, "hh")
        return nn.functional.linear(x, w_ih, b_ih + b_hh) + nn.functional.linear(state["h"][:, layer], w_hh)

    def advance(self, memory: Memory, state: State, gates: Tensor) -> tuple[Tensor, Tensor, State]:
        """One target position of R hypotheses from the bottom layer's gates (R, 4h): h~ (R, h), weights (R, S), the new state."""
        hs: list[Tensor] = []
        cs: list[Tensor] = []
        for layer in range(self.config.num_layers):
            if layer:
                gates = self._gates(layer, self.dropout(hs[-1]), state)
            h, c = lstm_cell(gates, state["c"][:, layer])
            hs.append(h)
            cs.append(c)
        sentences = memory["visible"].shape[0]
        top = self.dropout(hs[-1])
        attended, a = self.attend(memory, top.view(sentences, -1, top.shape[-1]), state["t"].view(sentences, -1))
        attended, a = attended.reshape_as(top), a.reshape(len(top), -1)
        new = {"h": torch.stack(hs, 1), "c": torch.stack(cs, 1), "t": state["t"] + 1}
        if self.config.input_feeding:
            new["fed"] = attended
        return attended, a, new

    def _weights(self, layer: int, kind: str) -> tuple[Tensor, Tensor]:
        return getattr(self.decoder, f"weight_{kind}_l{layer}"), getattr(self.decoder, f"bias_{kind}_l{layer}")


def lstm_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(h, c) after one step, from the gates' net inputs (R, 4h) in the order of `torch.nn.LSTM`: i, f, g, o."""
    single = torch.promote_types(gates.dtype, torch.float32)  # c is a sum over all steps: never in half precision
    i, f, g, o = gates.to(single).chunk(4, 1)
    c = torch.addcmul(torch.sigmoid(f) * c, torch.sigmoid(i), fast_tanh(g))
    return (torch.sigmoid(o) * fast_tanh(c)).to(gates.dtype), c


Model = Luong
