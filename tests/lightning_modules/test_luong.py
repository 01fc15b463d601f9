"""Luong's model against a naive loop in the paper's symbols."""

import pytest
import torch
from torch import Tensor, nn

from data.tokenizer import BEGIN, END
from lightning_modules.luong import Luong, LuongSettings, lstm_cell, reversal


def naive(model: Luong, source: list[int], target: list[int]) -> Tensor:
    """h~_t for each target position of one sentence, one piece and one source state at a time."""
    s = model.settings
    encoder = [nn.LSTMCell(s.embedding if i == 0 else s.hidden, s.hidden) for i in range(s.layers)]
    decoder = [
        nn.LSTMCell((s.embedding + s.hidden * s.input_feeding) if i == 0 else s.hidden, s.hidden)
        for i in range(s.layers)
    ]
    for cells, stacked in ((encoder, model.encoder), (decoder, model.decoder)):
        for i, cell in enumerate(cells):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(cell, name).data = getattr(stacked, f"{name}_l{i}").data
    state = [(torch.zeros(1, s.hidden), torch.zeros(1, s.hidden)) for _ in range(s.layers)]

    def run(cells: list[nn.LSTMCell], x: Tensor) -> Tensor:
        for i, cell in enumerate(cells):
            state[i] = cell(x, state[i])
            x = state[i][0]
        return x

    states: list[Tensor] = [torch.zeros(1, s.hidden)] * len(source)
    order = range(len(source) - 1, -1, -1) if s.reverse_source else range(len(source))
    for position in order:
        states[position] = run(encoder, model.source_embedding.weight[source[position]][None])
    fed = torch.zeros(1, s.hidden)
    out = []
    for piece in target:
        x = model.target_embedding.weight[piece][None]
        h = run(decoder, torch.cat([x, fed], 1) if s.input_feeding else x)
        scores = []
        for h_s in states:
            match s.score:
                case "dot":
                    scores.append((h * h_s).sum())
                case "general":
                    scores.append((h * (h_s @ model.W_a.weight.t())).sum())
                case "concat":  # v . tanh(W [h_t; h_s])
                    w = torch.cat([model.U_a.weight, model.W_a.weight], 1)
                    scores.append((torch.tanh(torch.cat([h, h_s], 1) @ w.t()) * model.v_a).sum())
        a = torch.softmax(torch.stack(scores), 0)
        context = sum(w * h_s for w, h_s in zip(a, states, strict=True))
        fed = torch.tanh(torch.cat([context, h], 1) @ model.W_c.weight.t())
        out.append(fed)
    return torch.cat(out)


@pytest.mark.parametrize("score", ["dot", "general", "concat"])
@pytest.mark.parametrize("feeding", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("reverse", [True, False])
def test_it_equals_the_naive_loop(score: str, feeding: bool, layers: int, reverse: bool) -> None:
    torch.manual_seed(1)
    settings = LuongSettings(
        embedding=6, hidden=8, layers=layers, score=score, input_feeding=feeding, reverse_source=reverse, init=0.6
    )
    model = Luong(settings, 20).eval()
    source, target = [5, 6, 7, END], [BEGIN, 8, 9]
    with torch.no_grad():
        torch.testing.assert_close(
            model(torch.tensor([source]), torch.tensor([target]))[0], naive(model, source, target), rtol=1e-5, atol=1e-6
        )


def test_the_cell_equals_pytorchs() -> None:
    cell = nn.LSTMCell(3, 4)
    x, h, c = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)
    gates = x @ cell.weight_ih.t() + cell.bias_ih + h @ cell.weight_hh.t() + cell.bias_hh
    for mine, theirs in zip(lstm_cell(gates, c), cell(x, (h, c)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_reversal_leaves_padding_where_it_is() -> None:
    assert reversal(torch.tensor([3, 1]), 4).tolist() == [[2, 1, 0, 3], [0, 1, 2, 3]]


def test_paper_sizes_have_the_papers_weights_in_each_part() -> None:
    h = 8
    model = Luong(LuongSettings(layers=4, embedding=h, hidden=h), 50)
    # Four layers, each 4 gates over input and state with two bias vectors; the decoder's first also reads h~.
    assert sum(p.numel() for p in model.encoder.parameters()) == 4 * (4 * h * 2 * h + 8 * h)
    assert sum(p.numel() for p in model.decoder.parameters()) == 4 * (4 * h * 2 * h + 8 * h) + 4 * h * h
    assert all(p.abs().max() <= 0.1 for p in model.parameters())
