"""RNN Encoder-Decoder against a naive loop in the paper's symbols."""

import pytest
import torch
from torch import Tensor, nn

from data.tokenizer import BEGIN, END, PAD
from lightning_modules.decoding.translation import log_probabilities
from lightning_modules.translators.gru.model import GRU, GRUConfig
from lightning_modules.translators.module import cross_entropy

SOURCE, TARGET = [5, 6, 7, END], [BEGIN, 8, 9, END]


def unit(cell: nn.Module, x: Tensor, h: Tensor) -> Tensor:
    """One step: eqs. 5 to 8, or PyTorch's own cell."""
    if isinstance(cell, nn.GRU):
        w_ih, w_hh, b_ih, b_hh = cell.all_weights[0]
        reference = nn.GRUCell(len(x), len(h))
        reference.weight_ih.data, reference.weight_hh.data = w_ih.data, w_hh.data
        reference.bias_ih.data, reference.bias_hh.data = b_ih.data, b_hh.data
        return reference(x[None], h[None])[0]
    (W_z, W_r, W), (b_z, b_r, b), (U_z, U_r, U) = (p.chunk(3) for p in (cell.W.weight, cell.W.bias, cell.U))
    r = torch.sigmoid(W_r @ x + b_r + U_r @ h)
    z = torch.sigmoid(W_z @ x + b_z + U_z @ h)
    return z * h + (1 - z) * torch.tanh(W @ x + b + U @ (r * h))


def naive(model: GRU, source: list[int], target: list[int]) -> Tensor:
    """G_r s_t for each target position of one sentence: one token and one maxout unit at a time."""
    h = torch.zeros(model.config.hidden_size)
    for token in source:
        h = unit(model.encoder, model.source_embedding.weight[token], h)
    c = torch.tanh(model.V.weight @ h + model.V.bias)
    h = torch.tanh(model.V_.weight @ c + model.V_.bias)
    out = []
    for token in target:
        y = model.target_embedding.weight[token]
        h = unit(model.decoder, torch.cat([y, c]), h)  # W' e(y) + C c is [W', C] [e(y); c]
        s = model.O_h.weight @ h + model.O_h.bias + model.O_y.weight @ y + model.O_c.weight @ c
        s = torch.stack([max(s[2 * i], s[2 * i + 1]) for i in range(model.config.maxout_size)])
        out.append(s if model.G_r is None else model.G_r.weight @ s)
    return torch.stack(out)


def model_of(reset: str = "paper", rank: int | None = 4) -> GRU:
    """A small model with all weights away from 0, the embedding of y_0 excepted."""
    torch.manual_seed(1)
    model = GRU(GRUConfig(embedding_dim=6, hidden_size=8, maxout_size=5, rank=rank, reset=reset), 20).eval()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.6, 0.6)
    with torch.no_grad():
        model.target_embedding.weight[BEGIN] = 0
    return model


@pytest.mark.parametrize("reset", ["paper", "fused"])
@pytest.mark.parametrize("rank", [4, None])
def test_it_equals_the_naive_loop(reset: str, rank: int | None) -> None:
    model = model_of(reset, rank)
    with torch.no_grad():
        expected = naive(model, SOURCE, TARGET)
        features = model(torch.tensor([SOURCE]), torch.tensor([TARGET]))[0]
        torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-6)
        memory = model.encode(torch.tensor([SOURCE]))
        state = model.start(memory, 1)
        for i, token in enumerate(TARGET):
            features, _, state = model.step(memory, state, torch.tensor([token]))
            torch.testing.assert_close(features[0], expected[i], rtol=1e-5, atol=1e-6)


def test_the_two_resets_are_two_models() -> None:
    """The same weights in both: apart from the order of the gates, only the place of the reset gate differs."""
    paper, fused = model_of("paper"), model_of("fused")
    n = 8
    order = torch.cat([torch.arange(n, 2 * n), torch.arange(n), torch.arange(2 * n, 3 * n)])
    for mine, theirs in ((paper.encoder, fused.encoder), (paper.decoder, fused.decoder)):
        w_ih, w_hh, b_ih, b_hh = theirs.all_weights[0]
        w_ih.data, w_hh.data, b_ih.data = mine.W.weight.data[order], mine.U.data[order], mine.W.bias.data[order]
        b_hh.data.zero_()
    rest = {name: p for name, p in paper.state_dict().items() if "coder" not in name}
    assert not fused.load_state_dict(rest, strict=False).unexpected_keys
    source, target = torch.tensor([SOURCE]), torch.tensor([TARGET])
    assert not torch.allclose(paper(source, target), fused(source, target), atol=1e-3)
    first = [model.encode(source[:, :1])["c"] for model in (paper, fused)]  # from the state 0 there is nothing to reset
    torch.testing.assert_close(*first)


@pytest.mark.parametrize("reset", ["paper", "fused"])
def test_it_scores_given_pairs(reset: str) -> None:
    """Rescoring phrases (3.1): log p(target | source) is the sum over tokens, whatever else is in the batch."""
    model = model_of(reset)
    weight, bias = model.output
    with torch.no_grad():
        scores = naive(model, SOURCE, TARGET[:-1]) @ weight.t() + bias
        scores[:, [PAD, BEGIN]] = -torch.inf  # what no text continues with has none of the probability
        log_p = torch.log_softmax(scores, -1)
        expected = sum(float(log_p[i, token]) for i, token in enumerate(TARGET[1:]))
    assert SOURCE[-1] == TARGET[-1] == END
    log_p = log_probabilities(model, [[9], SOURCE[:-1]], [[], TARGET[1:-1]])
    assert log_p[1] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("reset", ["paper", "fused"])
def test_the_summary_reaches_every_step(reset: str) -> None:
    """What a step gives still depends on c when the state before it is the same: through C and through O_c."""
    model = model_of(reset)
    memory = model.encode(torch.tensor([[5, 6, END], [7, 8, END]]))
    state = {"h": torch.zeros(2, 8)}
    for without in ("gates", "readout", None):
        shared = {**memory, **({without: memory[without][:1].expand(2, -1)} if without else {})}
        features, attention, _ = model.step(shared, state, torch.tensor([9, 9]))
        assert attention is None
        assert not torch.allclose(features[0], features[1])
    same = {name: tensor[:1].expand(2, -1) for name, tensor in memory.items()}
    features, _, _ = model.step(same, state, torch.tensor([9, 9]))
    torch.testing.assert_close(features[0], features[1])


@pytest.mark.parametrize("reset", ["paper", "fused"])
def test_it_learns_two_sentences_by_heart(reset: str) -> None:
    torch.manual_seed(0)
    model = GRU(GRUConfig(embedding_dim=16, hidden_size=24, maxout_size=16, dropout=0, reset=reset), 20)
    source = torch.tensor([[5, 6, 7, END], [6, 5, END, PAD]])
    target = torch.tensor([[BEGIN, 8, 9, 10, END], [BEGIN, 11, 8, END, PAD]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(400):
        loss, tokens = cross_entropy(model, {"source": source, "target": target})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() / tokens < 0.05


@pytest.mark.parametrize("reset", ["paper", "fused"])
def test_weights_start_as_in_the_paper(reset: str) -> None:
    model = GRU(GRUConfig(embedding_dim=50, hidden_size=60, maxout_size=40, rank=30, reset=reset), 90)
    for name in ("V", "V_", "O_h", "O_y", "O_c", "G_r", "G_l"):
        assert getattr(model, name).weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert all((p == 0).all() for p in model.parameters() if p.dim() == 1)
    for cell in (model.encoder, model.decoder):
        recurrent = cell.all_weights[0][1] if isinstance(cell, nn.GRU) else cell.U
        for u in recurrent.chunk(3):
            torch.testing.assert_close(u @ u.t(), torch.eye(60), rtol=0, atol=1e-5)


def test_the_paper_s_model_has_the_paper_s_weights() -> None:
    e, n, maxout, rank, types = 100, 1000, 500, 100, 15_000
    with torch.device("meta"):
        model = GRU(GRUConfig.model_validate({"preset": "paper"}), types)
    expected = {
        "embeddings": 2 * types * e,
        "encoder": 3 * (n * e + n * n) + 3 * n,
        "c": n * n + n,
        "h'_0": n * n + n,
        "decoder": 3 * (n * e + n * n + n * n) + 3 * n,
        "s'": 2 * maxout * (n + e + n) + 2 * maxout,
        "G": rank * maxout + types * rank + types,
    }
    assert sum(p.numel() for p in model.parameters()) == sum(expected.values()) == 18_274_000
    training = model.config.training
    assert (training.optimizer, training.learning_rate, training.max_grad_norm) == ("adadelta", 1.0, None)
