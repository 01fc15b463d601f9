"""Luong's model against a naive loop in the paper's symbols."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.config import validated
from core.errors import InputError
from data.batching import padded
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.decoding.translation import DecodingConfig, alignment, translate
from lightning_modules.translators.luong.model import Luong, LuongConfig, lstm_cell, reversal
from lightning_modules.translators.module import cross_entropy


def naive_weights(model: Luong, states: list[Tensor], h: Tensor, t: int) -> Tensor:
    """a_t over the source states of one sentence, by 3.1 and 3.2 of the paper, one state at a time."""
    s = model.config
    length = len(states)
    match s.attention:
        case "global":
            window = range(length)
        case "local-m":
            center = min(t, length - 1)
            window = range(max(0, center - s.D), min(length, center + s.D + 1))
        case "local-p":
            p = length * torch.sigmoid((torch.tanh(h[0] @ model.W_p.weight.t()) * model.v_p).sum()).item()
            center = math.floor(p)
            window = range(max(0, center - s.D), min(length, center + s.D + 1))
    exponentials = {}
    for i in window:
        h_s = states[i]
        match s.score:
            case "dot":
                score = (h * h_s).sum()
            case "general":
                score = (h * (h_s @ model.W_a.weight.t())).sum()
            case "concat":  # v . tanh(W [h_t; h_s])
                w = torch.cat([model.U_a.weight, model.W_a.weight], 1)
                score = (torch.tanh(torch.cat([h, h_s], 1) @ w.t()) * model.v_a).sum()
            case "location":
                score = (model.W_a.weight[i] * h[0]).sum()
        exponentials[i] = math.exp(score.item())
    a = torch.zeros(length)
    for i in window:
        a[i] = exponentials[i] / sum(exponentials.values())
        if s.attention == "local-p":
            sigma = s.D / 2
            a[i] *= math.exp(-((i - p) ** 2) / (2 * sigma**2))
    return a


def naive(model: Luong, source: list[int], target: list[int]) -> tuple[Tensor, Tensor]:
    """h~_t and a_t for each target position of one sentence, one token and one source state at a time."""
    s = model.config
    encoder = [nn.LSTMCell(s.embedding_dim if i == 0 else s.hidden_size, s.hidden_size) for i in range(s.num_layers)]
    decoder = [
        nn.LSTMCell((s.embedding_dim + s.hidden_size * s.input_feeding) if i == 0 else s.hidden_size, s.hidden_size)
        for i in range(s.num_layers)
    ]
    for cells, stacked in ((encoder, model.encoder), (decoder, model.decoder)):
        for i, cell in enumerate(cells):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(cell, name).data = getattr(stacked, f"{name}_l{i}").data
    state = [(torch.zeros(1, s.hidden_size), torch.zeros(1, s.hidden_size)) for _ in range(s.num_layers)]

    def run(cells: list[nn.LSTMCell], x: Tensor) -> Tensor:
        for i, cell in enumerate(cells):
            state[i] = cell(x, state[i])
            x = state[i][0]
        return x

    states: list[Tensor] = [torch.zeros(1, s.hidden_size)] * len(source)
    order = range(len(source) - 1, -1, -1) if s.reverse_source else range(len(source))
    for position in order:
        states[position] = run(encoder, model.source_embedding.weight[source[position]][None])
    fed = torch.zeros(1, s.hidden_size)
    out, weights = [], []
    for t, token in enumerate(target):
        x = model.target_embedding.weight[token][None]
        h = run(decoder, torch.cat([x, fed], 1) if s.input_feeding else x)
        a = naive_weights(model, states, h, t)
        weights.append(a)
        context = sum(w * h_s for w, h_s in zip(a, states, strict=True))
        fed = torch.tanh(torch.cat([context, h], 1) @ model.W_c.weight.t())
        out.append(fed)
    return torch.cat(out), torch.stack(weights)


@pytest.mark.parametrize("score", ["dot", "general", "concat", "location"])
@pytest.mark.parametrize("feeding", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("reverse", [True, False])
def test_it_equals_the_naive_loop(score: str, feeding: bool, layers: int, reverse: bool) -> None:
    torch.manual_seed(1)
    config = LuongConfig(
        embedding_dim=6,
        hidden_size=8,
        num_layers=layers,
        score=score,
        input_feeding=feeding,
        reverse_source=reverse,
        init=0.6,
    )
    model = Luong(config, 20).eval()
    source, target = [5, 6, 7, END], [BEGIN, 8, 9]
    with torch.no_grad():
        torch.testing.assert_close(
            model(torch.tensor([source]), torch.tensor([target]))[0],
            naive(model, source, target)[0],
            rtol=1e-5,
            atol=1e-6,
        )


@pytest.mark.parametrize("score", ["dot", "general", "concat"])
@pytest.mark.parametrize("attention", ["local-m", "local-p"])
@pytest.mark.parametrize("feeding", [True, False])
@pytest.mark.parametrize("D", [1, 2, 10])
@pytest.mark.parametrize("reverse", [True, False])
def test_local_attention_equals_the_naive_loop(
    score: str, attention: str, feeding: bool, D: int, reverse: bool
) -> None:
    model = small(score=score, attention=attention, D=D, input_feeding=feeding, reverse_source=reverse, num_layers=2)
    # Unlike lengths in one batch, and targets that go on beyond the source's end.
    sources, targets = [[5, 6, 7, 8, 9, END], [10, END]], [[BEGIN, 8, 9, 11, 12], [BEGIN, *range(4, 12)]]
    with torch.no_grad():
        features, weights = model(padded(sources), padded(targets)), alignment(model, padded(sources), padded(targets))
        for i, (source, target) in enumerate(zip(sources, targets, strict=True)):
            expected, expected_weights = naive(model, source, target)
            torch.testing.assert_close(features[i, : len(target)], expected, rtol=1e-5, atol=1e-5)
            steps = min(len(target), weights.shape[1])
            torch.testing.assert_close(
                weights[i, :steps, : len(source)], expected_weights[:steps], rtol=1e-5, atol=1e-5
            )
            assert (weights[i, :, len(source) :] == 0).all()


def test_the_window_moves_with_the_target_and_stops_at_the_sources_end() -> None:
    model = small(attention="local-m", D=1)
    source, target = padded([[5, 6, 7, 8, END], [9, 10, END]]), torch.tensor([[BEGIN, *range(4, 11)]] * 2)
    attended = alignment(model, source, target) > 0
    assert [row.nonzero().flatten().tolist() for row in attended[0]] == [
        [0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4], [3, 4], [3, 4],
    ]  # fmt: skip
    assert [row.nonzero().flatten().tolist() for row in attended[1]][3:] == [[1, 2]] * 4


def test_the_predicted_position_scales_with_each_rows_own_length() -> None:
    model = small(attention="local-p", D=4)
    torch.nn.init.zeros_(model.v_p)  # sigmoid(0) = 1/2: the middle of each sentence
    memory = model.encode(padded([[5, 6, 7, 8, 9, END], [10, END]]))
    assert model.centers(memory, torch.randn(2, 1, 8), torch.zeros(1, 1)).tolist() == [[3.0], [1.0]]
    model.v_p.data.fill_(1e4)  # p_t = S, beyond the last token: its window is the last token's
    h = torch.atanh(torch.full((2, 1, 8), 0.5)) @ torch.linalg.inv(model.W_p.weight).t()
    assert model.centers(memory, h, torch.zeros(1, 1)).tolist() == [[6.0], [2.0]]
    _, a = model.attend(memory, h, torch.zeros(1, 1))
    assert a[0, 0].nonzero().flatten().tolist() == [1, 2, 3, 4, 5]


def test_the_gaussian_is_not_normalised_again() -> None:
    model = small(attention="local-p", D=2, score="dot")
    torch.nn.init.zeros_(model.v_p)
    memory = model.encode(torch.tensor([[5, 6, 7, END]]))
    _, a = model.attend(memory, torch.zeros(1, 1, 8), torch.zeros(1, 1))  # all scores equal; p = 2, sigma = 1
    expected = [math.exp(-((s - 2) ** 2) / 2) / 4 for s in range(4)]
    assert a[0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_location_refuses_what_it_has_no_row_for() -> None:
    model = small(score="location", max_source_length=4)
    longest = torch.tensor([[5, 6, 7, END]])
    wider = torch.nn.functional.pad(longest, (0, 3), value=PAD)  # padding needs no row
    target = torch.tensor([[BEGIN, 8]])
    torch.testing.assert_close(model(wider, target), model(longest, target))
    with pytest.raises(
        InputError, match=r"a source has 5 tokens with its end token, .* at most 4\. .*max_source_length"
    ):
        model.encode(torch.tensor([[5, 6, 7, 8, END], [5, END, PAD, PAD, PAD]]))
    with pytest.raises(InputError, match="'location' is for global attention"):
        validated(LuongConfig, {"score": "location", "attention": "local-p"}, "luong")


@pytest.mark.parametrize(
    "kind",
    [
        {"score": "location"},
        {"attention": "local-m", "D": 1},
        {"attention": "local-p", "D": 1},
        {"attention": "local-p", "D": 2, "input_feeding": False},
    ],
)
def test_scores_of_translations_do_not_depend_on_the_batch(kind: dict[str, Any]) -> None:
    model = small(**kind)
    sources = [[5, 6, 7, 8], [9], [10, 11, 12], [13, 14], [15, 16, 17, 18, 19, 4], [6, 5]]
    translations = [
        dict(translate(model, sources, DecodingConfig(beam_size=3, n_best=3, extra_tokens=6, batch_tokens=tokens)))
        for tokens in (1, 14, 1000)
    ]
    for i in range(len(sources)):
        for other in translations[1:]:
            assert [h.tokens for h in other[i]] == [h.tokens for h in translations[0][i]]
            assert [h.score for h in other[i]] == pytest.approx([h.score for h in translations[0][i]], abs=1e-5)


def test_without_feeding_the_decoder_runs_once() -> None:
    for attention in ("global", "local-m", "local-p"):
        model, calls = small(attention=attention, input_feeding=False), []
        model.decoder.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        model(torch.tensor([[5, 6, END]]), torch.tensor([[BEGIN, 7, 8, 9]]))
        assert len(calls) == 1


def small(**config: Any) -> Luong:
    torch.manual_seed(1)
    return Luong(LuongConfig(embedding_dim=6, hidden_size=8, init=0.6, **config), 20).eval()


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
    model = Luong(LuongConfig(num_layers=4, embedding_dim=h, hidden_size=h), 50)
    # Four layers, each 4 gates over input and state with two bias vectors; the decoder's first also reads h~.
    assert sum(p.numel() for p in model.encoder.parameters()) == 4 * (4 * h * 2 * h + 8 * h)
    assert sum(p.numel() for p in model.decoder.parameters()) == 4 * (4 * h * 2 * h + 8 * h) + 4 * h * h
    assert all(p.abs().max() <= 0.1 for p in model.parameters())


def test_the_papers_settings() -> None:
    config = LuongConfig.model_validate({"preset": "paper", "attention": "local-p"})
    with torch.device("meta"):
        model = Luong(config, 50_000)
    h = 1000
    lstm = 4 * (8 * h * h + 8 * h)
    expected = 3 * 50_000 * h + 2 * lstm + 4 * h * h  # embeddings and W_s, both LSTMs, and what is fed to the decoder;
    expected += h * h + (h * h + h) + 2 * h * h  # W_a; W_p and v_p; W_c
    assert sum(p.numel() for p in model.parameters()) == expected
    assert (config.D, config.training.optimizer, config.training.learning_rate) == (10, "sgd", 1.0)


@pytest.mark.parametrize("score", ["dot", "general"])
def test_a_trained_model_aligns_what_a_step_predicts(score: Any) -> None:
    """The paper's footnote says: what it reads. Learned on texts to be written backwards, where each token has one source token."""
    torch.manual_seed(0)
    model = Luong(LuongConfig(num_layers=1, embedding_dim=32, hidden_size=64, score=score, dropout=0.0), 24)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def texts(rows: int, length: int = 7) -> tuple[Tensor, Tensor]:
        tokens = torch.rand(rows, 20).argsort(1)[:, :length] + 4  # none twice
        begin, end = torch.full((rows, 1), BEGIN), torch.full((rows, 1), END)
        return torch.cat([tokens, end], 1), torch.cat([begin, tokens.flip(1), end], 1)

    for _ in range(250):
        source, target = texts(64)
        loss, _ = cross_entropy(model, {"source": source, "target": target})
        optimizer.zero_grad()
        (loss / target.numel()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    source, target = texts(50)
    weights = alignment(model.eval(), source, target)
    assert weights is not None
    looked_at = source.gather(1, weights.argmax(2))
    assert (looked_at[:, :-1] == target[:, 1:-1]).float().mean() > 0.9  # of the step that predicts the token
    assert (looked_at[:, 1:] == target[:, 1:-1]).float().mean() < 0.2  # of the step that reads it
