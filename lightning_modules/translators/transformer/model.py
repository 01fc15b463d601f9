"""The Transformer (Vaswani et al. 2017). Equations and symbols are the paper's. The presets `base` and `big` have its values.

Option that is not in the paper: `layer_norm: pre` (Xiong et al. 2020) beside its `post`.

Fixed differences: batches have a budget of target tokens, and the length of a training is in epochs. The weights averaged at its end
are those after whole epochs; the paper's are of every ten minutes.
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.tokenizer import PAD
from lightning_modules.translators.base import Memory, State, Step, Translator
from lightning_modules.translators.transformer.config import TransformerConfig


class Transformer(Translator):
    """Encoder-decoder of attention and position-wise layers; one matrix serves both embeddings and the output (3.4)."""

    Config = TransformerConfig

    def __init__(self, config: TransformerConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        d, n = config.hidden_size, config.num_layers
        self.embedding = nn.Embedding(vocab_size, d)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(n))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(n))
        # Pre-norm leaves the sum of the layers un-normalised: one more norm ends each stack.
        self.encoder_norm = nn.LayerNorm(d) if config.layer_norm == "pre" else nn.Identity()
        self.decoder_norm = nn.LayerNorm(d) if config.layer_norm == "pre" else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.embedding.weight, std=d**-0.5)

    @property
    def output(self) -> tuple[Tensor, None]:
        return self.embedding.weight, None

    def embed(self, tokens: Tensor, first: int = 0) -> Tensor:
        """(..., T) -> (..., T, d): embedding times sqrt(d_model) (3.4) plus the encoding of positions first .. first + T - 1 (3.5)."""
        d = self.config.hidden_size
        positions = sinusoids(first, tokens.shape[-1], d, self.embedding.weight)
        return self.dropout(self.embedding(tokens) * math.sqrt(d) + positions)

    @property
    def aligned_step(self) -> Literal["predicted"]:
        """y_t is predicted from the weights of its step: those of the last layer, averaged over heads."""
        return "predicted"

    def encode(self, source: Tensor) -> Memory:
        visible = source != PAD
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, visible[:, None, None])
        return {"states": self.encoder_norm(x), "visible": visible}

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        x = self.embed(target)
        for layer in self.decoder:
            # Padding is at the end, where causal attention keeps it from every position that counts.
            x = layer(x, memory["states"], memory["visible"][:, None, None])
        return self.decoder_norm(x)

    def start(self, memory: Memory, beams: int) -> State:
        # Keys and values of the source are the same at every step: projected once, kept with the sentence.
        for i, layer in enumerate(self._decoder_layers()):
            memory[f"keys{i}"], memory[f"values{i}"] = layer.cross.keys_values(memory["states"])
        rows, heads = len(memory["states"]) * beams, self.config.num_heads
        empty = memory["states"].new_empty(rows, heads, 0, self.config.hidden_size // heads)
        return {f"{name}{i}": empty for name in ("keys", "values") for i in range(self.config.num_layers)}

    def _decoder_layers(self) -> Iterator["DecoderLayer"]:
        return (layer for layer in self.decoder if isinstance(layer, DecoderLayer))

    def step(self, memory: Memory, state: State, previous: Tensor) -> Step:
        x = self.embed(previous[:, None], first=state["keys0"].shape[2])  # (R, 1, d)
        new: State = {}
        for i, layer in enumerate(self._decoder_layers()):
            past = (state[f"keys{i}"], state[f"values{i}"])
            source = (memory[f"keys{i}"], memory[f"values{i}"], memory["visible"])
            x, new[f"keys{i}"], new[f"values{i}"], attention = layer.step(x, past, source)
        return Step(self.decoder_norm(x)[:, 0], attention, new)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with a residual connection and layer normalisation (3.1)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(config), feed_forward(config)
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden_size) for _ in range(2))
        self.dropout, self.pre = nn.Dropout(config.dropout), config.layer_norm == "pre"

    def residual(self, i: int, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """post: LayerNorm(x + Sublayer(x)), the paper's; pre: x + Sublayer(LayerNorm(x))."""
        if self.pre:
            return x + self.dropout(sublayer(self.norms[i](x)))
        return self.norms[i](x + self.dropout(sublayer(x)))

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        x = self.residual(0, x, lambda y: self.attention(y, y, visible))
        return self.residual(1, x, self.feed_forward)


class DecoderLayer(EncoderLayer):
    """An encoder layer with attention over the source between its two sublayers; self-attention sees earlier positions only (3.1)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.cross = Attention(config)
        self.norms.append(nn.LayerNorm(config.hidden_size))

    def forward(self, x: Tensor, memory: Tensor, visible: Tensor) -> Tensor:  # type: ignore[override]
        x = self.residual(0, x, lambda y: self.attention(y, y, causal=True))
        x = self.residual(2, x, lambda y: self.cross(y, memory, visible))
        return self.residual(1, x, self.feed_forward)

    def step(
        self, x: Tensor, past: tuple[Tensor, Tensor], source: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One position x (R, 1, d) after `past`, keys and values (R, heads, t, d/h), with those of the source and what it shows (B, S).

        Returns the layer's output (R, 1, d), the keys and values with those of this position, and its attention (R, S) over the
        source, the mean over heads.
        """
        keys, values, visible = source
        sentences, length = visible.shape
        attention = x.new_empty(0)

        def attend_past(y: Tensor) -> Tensor:
            nonlocal past
            k, v = self.attention.keys_values(y)
            past = (torch.cat([past[0], k], 2), torch.cat([past[1], v], 2))
            q = self.attention.queries(y)
            return self.attention.merge(fused_attention(q, *past))

        def attend_source(y: Tensor) -> Tensor:
            nonlocal attention
            # The hypotheses of a sentence are queries side by side (B, h, beams, d/h): its keys are read once for all.
            q = self.cross.queries(y.view(sentences, -1, y.shape[-1]))
            scores = q @ keys.transpose(2, 3) / math.sqrt(q.shape[-1])  # Q K^T / sqrt(d_k) (eq. 1)
            weights = scores.masked_fill(~visible[:, None, None], -torch.inf).softmax(-1)
            attention = weights.mean(1).view(-1, length)
            return self.cross.merge(weights @ values).view_as(y)

        x = self.residual(0, x, attend_past)
        x = self.residual(2, x, attend_source)
        x = self.residual(1, x, self.feed_forward)
        return x, *past, attention


class Attention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1 .. head_h) W^O, head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V) (3.2.2); no biases."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        d, self.num_heads = config.hidden_size, config.num_heads
        self.query = nn.Linear(d, d, bias=False)  # W^Q of all heads
        self.key_value = nn.Linear(d, 2 * d, bias=False)  # W^K and W^V of all heads
        self.out = nn.Linear(d, d, bias=False)  # W^O

    def queries(self, x: Tensor) -> Tensor:
        """Q W_i^Q of all heads: (B, T, d) -> (B, h, T, d/h)."""
        return self.query(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """K W_i^K and V W_i^V of all heads: (B, S, d) -> (B, h, S, d/h) each."""
        keys, values = self.key_value(x).chunk(2, dim=-1)
        return tuple(y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in (keys, values))

    def merge(self, heads: Tensor) -> Tensor:
        """Concat(head_1 .. head_h) W^O: (B, h, T, d/h) -> (B, T, d)."""
        return self.out(heads.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, memory: Tensor, visible: Tensor | None = None, causal: bool = False) -> Tensor:
        keys, values = self.keys_values(memory)
        return self.merge(fused_attention(self.queries(x), keys, values, visible, causal))


def fused_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None = None, causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(d/h)) v of all heads (eq. 1): (B, h, T, d/h) of q (B, h, T, d/h), k and v (B, h, S, d/h).

    `visible`, broadcast to (B, h, T, S), is true where a query sees a key. A CPU computes in single precision: its kernels for bf16
    take several times as long.
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=causal)
    single = torch.promote_types(q.dtype, torch.float32)
    with torch.autocast("cpu", enabled=False):
        attended = F.scaled_dot_product_attention(
            q.to(single), k.to(single), v.to(single), attn_mask=visible, is_causal=causal
        )
    return attended.to(q.dtype)  # in a model in half precision everything is


def feed_forward(config: TransformerConfig) -> nn.Sequential:
    """FFN(x) = max(0, x W_1 + b_1) W_2 + b_2 (3.3)."""
    return nn.Sequential(
        nn.Linear(config.hidden_size, config.ff_size), nn.ReLU(), nn.Linear(config.ff_size, config.hidden_size)
    )


def sinusoids(first: int, count: int, d: int, like: Tensor) -> Tensor:
    """(count, d): PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos of the same (3.5)."""
    position = torch.arange(first, first + count, device=like.device, dtype=torch.float32)[:, None]
    angle = position * torch.exp(torch.arange(0, d, 2, device=like.device) * (-math.log(10000.0) / d))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(like.dtype)


Model = Transformer
