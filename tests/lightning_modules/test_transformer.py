"""The Transformer against the paper's formulas and PyTorch's attention."""

import math

import torch
from torch import nn

from data.tokenizer import PAD
from lightning_modules.transformer import (
    Attention,
    EncoderLayer,
    Transformer,
    TransformerSettings,
    feed_forward,
    sinusoids,
)
from stages.model_files import count_parameters


def test_base_and_big_have_the_papers_weight_counts() -> None:
    for preset, d, f, millions in (("base", 512, 2048, 63), ("big", 1024, 4096, 214)):  # 65 and 213 in table 3
        with torch.device("meta"):
            model = Transformer(TransformerSettings.model_validate({"preset": preset}), 37_000)
        # Besides the embedding: attention 18 x 4 d^2, feed-forward 12 x (2 d d_ff + d + d_ff), norms 30 x 2 d.
        assert count_parameters(model) == 37_000 * d + 18 * 4 * d * d + 12 * (2 * d * f + d + f) + 30 * 2 * d
        assert round(count_parameters(model) / 1e6) == millions


def test_attention_equals_pytorchs() -> None:
    torch.manual_seed(0)
    settings = TransformerSettings(d_model=16, heads=4)
    mine, theirs = Attention(settings), nn.MultiheadAttention(16, 4, bias=False, batch_first=True)
    theirs.in_proj_weight.data = torch.cat([mine.query.weight, mine.key_value.weight])
    theirs.out_proj.weight.data = mine.out.weight.data
    x, memory = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    hidden = torch.tensor([[False] * 5, [False, False, False, True, True]])
    expected, _ = theirs(x, memory, memory, key_padding_mask=hidden)
    torch.testing.assert_close(mine(x, memory, ~hidden[:, None, None]), expected)
    causal, _ = theirs(memory, memory, memory, attn_mask=torch.ones(5, 5).triu(1).bool())
    torch.testing.assert_close(mine(memory, memory, causal=True), causal)


def test_post_norm_layer_is_written_out() -> None:
    torch.manual_seed(0)
    layer = EncoderLayer(TransformerSettings(d_model=16, heads=4, d_ff=32)).eval()
    x, visible = torch.randn(2, 3, 16), torch.ones(2, 1, 1, 3, dtype=torch.bool)
    middle = layer.norms[0](x + layer.attention(x, x, visible))
    torch.testing.assert_close(layer(x, visible), layer.norms[1](middle + layer.feed_forward(middle)))


def test_feed_forward_is_two_layers_with_relu() -> None:
    net = feed_forward(TransformerSettings(d_model=4, d_ff=8))
    x = torch.randn(3, 4)
    expected = torch.relu(x @ net[0].weight.t() + net[0].bias) @ net[2].weight.t() + net[2].bias
    torch.testing.assert_close(net(x), expected)


def test_positions_are_the_papers_sinusoids() -> None:
    made = sinusoids(3, 4, 6, torch.zeros(1))
    for row, position in enumerate(range(3, 7)):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            assert math.isclose(made[row, 2 * i], math.sin(angle), abs_tol=1e-6)
            assert math.isclose(made[row, 2 * i + 1], math.cos(angle), abs_tol=1e-6)


def test_embedding_is_scaled_and_shared_three_ways() -> None:
    model = Transformer(TransformerSettings(d_model=16, heads=4, d_ff=32), 20).eval()
    pieces = torch.tensor([[5, 6]])
    expected = model.embedding.weight[pieces] * 4 + sinusoids(0, 2, 16, model.embedding.weight)
    torch.testing.assert_close(model.embed(pieces), expected)
    assert model.output[0] is model.embedding.weight
    assert PAD == 0
