"""Two deep LSTMs, one reading and one writing, with nothing between them but their states (Sutskever, Vinyals & Le 2014).

The encoder reads the source, reversed by default (3.3). The decoder starts from the last h and c of all its layers, and each step's
top h is the softmax layer's input (eq. 1). There is no attention.

Options that differ from the paper; the preset `paper` has the paper's values:

- `dropout` (Zaremba et al. 2014; between layers, on embeddings and before the softmax). The paper has none.
- `normalization: tokens | batch`: the paper divides the batch's gradient by its 128 sentences, which is `batch`, and scales it to
  norm 5 above that (3.4).

Fixed differences:

- `torch.nn.LSTM` has two bias vectors a layer and no peepholes; the paper's formulation is that of Graves (2013).
- Source and target share one vocabulary (160,000 and 80,000 words in the paper).
- The begin token is the decoder's first input, where the paper has <EOS>. The source's end token is read, first when reversed.
- Batches have a budget of tokens, not 128 sentences; like the paper's they are of about equal length. 7.5 epochs are 8.
"""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from data.tokenizer import PAD
from lightning_modules.translators import recurrence
from lightning_modules.translators.base import Memory, State, Step, Translator, reversal
from lightning_modules.translators.seq2seq.config import Seq2SeqConfig


class Seq2Seq(Translator):
    """p(y_1 .. y_T' | x_1 .. x_T) = prod_t p(y_t | v, y_1 .. y_t-1), v the encoder's last states (eq. 1)."""

    Config = Seq2SeqConfig

    def __init__(self, config: Seq2SeqConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        e, h, n = config.embedding_dim, config.hidden_size, config.num_layers
        between = config.dropout if n > 1 else 0  # torch warns of a dropout between the layers of one
        self.source_embedding = nn.Embedding(vocab_size, e)
        self.target_embedding = nn.Embedding(vocab_size, e)
        self.encoder = nn.LSTM(e, h, n, batch_first=True, dropout=between)
        self.decoder = nn.LSTM(e, h, n, batch_first=True, dropout=between)
        self.softmax = nn.Linear(h, vocab_size, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -config.init, config.init)

    @property
    def output(self) -> tuple[Tensor, None]:
        return self.softmax.weight, None

    def encode(self, source: Tensor) -> Memory:
        """The last states of all layers: h and c, each (B, layers, h)."""
        lengths, longest = (source != PAD).sum(1), source.shape[1]
        if self.config.reverse_source:
            source = source.gather(1, reversal(lengths, longest))
        embedded = self.dropout(self.source_embedding(source))
        cpu_lengths = lengths.cpu()
        if int(cpu_lengths.min()) == longest:  # a batch of equal lengths needs no packing, which costs time
            _, (h, c) = recurrence.run(self.encoder, embedded)
        else:
            packed = pack_padded_sequence(embedded, cpu_lengths, batch_first=True, enforce_sorted=False)
            _, (h, c) = recurrence.run(self.encoder, packed)
        return {"h": h.transpose(0, 1), "c": c.transpose(0, 1)}

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        return self.advance(memory, self.dropout(self.target_embedding(target)))[0]

    def start(self, memory: Memory, beams: int) -> State:
        return {name: memory[name].repeat_interleave(beams, 0) for name in ("h", "c")}

    def step(self, memory: Memory, state: State, previous: Tensor) -> Step:
        features, state = self.advance(state, self.dropout(self.target_embedding(previous[:, None])))
        return Step(features[:, 0], None, state)

    def advance(self, state: State, embedded: Tensor) -> tuple[Tensor, State]:
        """Features (R, T, h) of T target tokens (R, T, e), all in one call, and the state after them."""
        before = (state[name].transpose(0, 1).contiguous() for name in ("h", "c"))
        top, (h, c) = recurrence.run(self.decoder, embedded, *before)
        return self.dropout(top), {"h": h.transpose(0, 1), "c": c.transpose(0, 1)}


Model = Seq2Seq
