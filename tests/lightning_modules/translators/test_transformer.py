"""The Transformer against the paper's formulas and PyTorch's attention."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from data.tokenizer import PAD
from lightning_modules.translators.transformer.model import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    Transformer,
    TransformerConfig,
    feed_forward,
    sinusoids,
)
from model_io.files import count_parameters


def test_a_model_in_half_precision_stays_in_it() -> None:
    model = Transformer(TransformerConfig(num_layers=1, hidden_size=16, ff_size=16, num_heads=2), 30).eval()
    source, target = torch.tensor([[5, 6, 2]]), torch.tensor([[1, 7]])
    expected, output = model(source, target), model.bfloat16()(source, target)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=0.1, atol=0.1)


def test_base_and_big_have_the_papers_weight_counts() -> None:
    for preset, d, f, millions in (("base", 512, 2048, 63), ("big", 1024, 4096, 214)):  # 65 and 213 in table 3
        with torch.device("meta"):
            model = Transformer(TransformerConfig.model_validate({"preset": preset}), 37_000)
        # Besides the embedding: attention 18 x 4 d^2, feed-forward 12 x (2 d ff_size + d + ff_size), norms 30 x 2 d.
        assert count_parameters(model) == 37_000 * d + 18 * 4 * d * d + 12 * (2 * d * f + d + f) + 30 * 2 * d
        assert round(count_parameters(model) / 1e6) == millions


def test_transformer_tiny_has_the_published_weight_count() -> None:
    config = TransformerConfig(num_layers=4, hidden_size=128, ff_size=256, num_heads=4)  # Wu et al. (2021): 2.6M
    assert round(count_parameters(Transformer(config, 10_000)) / 1e6, 1) == 2.6


def test_attention_equals_pytorchs() -> None:
    torch.manual_seed(0)
    config = TransformerConfig(hidden_size=16, num_heads=4)
    mine, theirs = Attention(config), nn.MultiheadAttention(16, 4, bias=False, batch_first=True)
    theirs.in_proj_weight.data = torch.cat([mine.query.weight, mine.key_value.weight])
    theirs.out_proj.weight.data = mine.out.weight.data
    x, memory = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    hidden = torch.tensor([[False] * 5, [False, False, False, True, True]])
    expected, _ = theirs(x, memory, memory, key_padding_mask=hidden)
    torch.testing.assert_close(mine(x, memory, ~hidden[:, None, None]), expected)
    causal, _ = theirs(memory, memory, memory, attn_mask=torch.ones(5, 5).triu(1).bool())
    torch.testing.assert_close(mine(memory, memory, causal=True), causal)


def attend(attention: Attention, x: Tensor, memory: Tensor, seen: list[int]) -> Tensor:
    """Section 3.2, one sentence, one head and one position at a time: position t sees the first seen[t] of the memory."""
    d, h = x.shape[1], attention.num_heads
    w_k, w_v = attention.key_value.weight.split(d)
    heads = []
    for i in range(h):
        rows = slice(i * d // h, (i + 1) * d // h)
        q, k, v = (y @ w[rows].T for y, w in ((x, attention.query.weight), (memory, w_k), (memory, w_v)))
        weights = [(q[t] @ k[:n].T / math.sqrt(d / h)).softmax(0) for t, n in enumerate(seen)]
        heads.append(torch.stack([w @ v[: len(w)] for w in weights]))
    return torch.cat(heads, 1) @ attention.out.weight.T


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
def test_layers_are_written_out(kind: type[EncoderLayer], norm: str) -> None:
    """post: LayerNorm(x + Sublayer(x)); pre: x + Sublayer(LayerNorm(x)); the decoder's attention over the source is in between."""
    torch.manual_seed(0)
    layer = kind(
        TransformerConfig.model_validate({"hidden_size": 16, "num_heads": 4, "ff_size": 32, "layer_norm": norm})
    ).eval()
    for parameter in layer.norms.parameters():  # unlike each other, so that each must be in its place
        nn.init.normal_(parameter)
    x, source = torch.randn(2, 4, 16), torch.randn(2, 5, 16)
    lengths = [5, 3] if kind is DecoderLayer else [4, 2]
    size = 5 if kind is DecoderLayer else 4
    visible = (torch.arange(size) < torch.tensor(lengths)[:, None])[:, None, None]
    outputs = layer(x, source, visible) if kind is DecoderLayer else layer(x, visible)

    def normalised(y: Tensor, norm: nn.Module) -> Tensor:
        deviation = ((y - y.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True)
        return (y - y.mean(-1, keepdim=True)) / (deviation + norm.eps).sqrt() * norm.weight + norm.bias

    def added(y: Tensor, number: int, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        if norm == "pre":
            return y + sublayer(normalised(y, layer.norms[number]))
        return normalised(y + sublayer(y), layer.norms[number])

    first, _, second = layer.feed_forward
    for i, length in enumerate(lengths):
        seen = [1, 2, 3, 4] if kind is DecoderLayer else [length] * 4
        y = added(x[i], 0, lambda z, seen=seen: attend(layer.attention, z, z, seen))
        if kind is DecoderLayer:
            y = added(y, 2, lambda z, i=i, n=length: attend(layer.cross, z, source[i], [n] * 4))
        expected = added(y, 1, lambda z: torch.relu(z @ first.weight.T + first.bias) @ second.weight.T + second.bias)
        torch.testing.assert_close(outputs[i], expected)


def test_feed_forward_is_two_layers_with_relu() -> None:
    net = feed_forward(TransformerConfig(hidden_size=4, ff_size=8))
    x = torch.randn(3, 4)
    expected = torch.relu(x @ net[0].weight.t() + net[0].bias) @ net[2].weight.t() + net[2].bias
    torch.testing.assert_close(net(x), expected)


def test_positions_are_the_papers_sinusoids() -> None:
    encoding = sinusoids(3, 4, 6, torch.zeros(1))
    for row, position in enumerate(range(3, 7)):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            assert math.isclose(encoding[row, 2 * i], math.sin(angle), abs_tol=1e-6)
            assert math.isclose(encoding[row, 2 * i + 1], math.cos(angle), abs_tol=1e-6)


def test_embedding_is_scaled_and_shared_three_ways() -> None:
    model = Transformer(TransformerConfig(hidden_size=16, num_heads=4, ff_size=32), 20).eval()
    tokens = torch.tensor([[5, 6]])
    expected = model.embedding.weight[tokens] * 4 + sinusoids(0, 2, 16, model.embedding.weight)
    torch.testing.assert_close(model.embed(tokens), expected)
    assert model.output[0] is model.embedding.weight
    assert PAD == 0
