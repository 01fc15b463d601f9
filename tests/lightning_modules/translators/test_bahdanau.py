"""RNNsearch against a naive loop in the paper's symbols."""

import pytest
import torch
from torch import Tensor

from data.tokenizer import BEGIN, END, PAD
from lightning_modules.translators.bahdanau.model import Bahdanau, BahdanauConfig, _Decoder
from lightning_modules.translators.base import Translator
from lightning_modules.translators.module import cross_entropy

SOURCE, TARGET = [5, 6, 7, END], [BEGIN, 8, 9]


def unit(x: Tensor, h: Tensor, W: Tensor, b: Tensor, U: Tensor, from_c: Tensor | float = 0.0) -> Tensor:
    """The gated unit as A.1.1 writes it; the stored weights of z are Cho's, whose z is 1 - z here."""
    x_z, x_r, x_c = (W @ x + b + from_c).chunk(3)
    U_z, U_r, U_c = U.chunk(3)
    z = torch.sigmoid(-(x_z + U_z @ h))
    r = torch.sigmoid(x_r + U_r @ h)
    candidate = torch.tanh(x_c + U_c @ (r * h))
    return (1 - z) * h + z * candidate


def naive(model: Bahdanau, source: list[int], target: list[int]) -> tuple[Tensor, Tensor]:
    """t_i and alpha_i for each target position of one sentence: one token, one annotation, one unit at a time."""

    def weights(name: str) -> tuple[Tensor, Tensor, Tensor]:
        cell = getattr(model, name)
        return cell.W.weight, cell.W.bias, cell.U

    n, l = model.config.hidden_size, model.config.maxout_size  # noqa: E741
    ahead, back = [torch.zeros(n)], [torch.zeros(n)]
    for token in source:
        ahead.append(unit(model.source_embedding.weight[token], ahead[-1], *weights("forwards")))
    for token in reversed(source):
        back.append(unit(model.source_embedding.weight[token], back[-1], *weights("backwards")))
    annotations = [torch.cat(pair) for pair in zip(ahead[1:], reversed(back[1:]), strict=True)]
    s = torch.tanh(model.W_s.weight @ back[-1] + model.W_s.bias)
    out, alphas = [], []
    for token in target:
        y = model.target_embedding.weight[token]
        e = [model.v_a @ torch.tanh(model.W_a.weight @ s + model.U_a.weight @ h) for h in annotations]
        alpha = torch.softmax(torch.stack(e), 0)
        c = sum(a * h for a, h in zip(alpha, annotations, strict=True))
        before, s = s, unit(y, s, *weights("decoder"), from_c=model.C.weight @ c)
        read = before if model.config.readout == "previous" else s
        t = model.U_o.weight @ read + model.U_o.bias + model.V_o.weight @ y + model.C_o.weight @ c
        out.append(torch.stack([max(t[2 * j], t[2 * j + 1]) for j in range(l)]))
        alphas.append(alpha)
    return torch.stack(out), torch.stack(alphas)


def model_of(readout: str = "previous", scale: float = 0.5) -> Bahdanau:
    """A small model with all weights away from 0, the embedding of y_0 excepted."""
    torch.manual_seed(1)
    model = Bahdanau(
        BahdanauConfig(embedding_dim=6, hidden_size=8, attention_size=7, maxout_size=5, readout=readout), 20
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -scale, scale)
    with torch.no_grad():
        model.target_embedding.weight[BEGIN] = 0
    return model


@pytest.mark.parametrize("readout", ["previous", "current"])
def test_it_equals_the_naive_loop(readout: str) -> None:
    model = model_of(readout)
    expected, alphas = naive(model, SOURCE, TARGET)
    torch.testing.assert_close(model(torch.tensor([SOURCE]), torch.tensor([TARGET]))[0], expected, rtol=1e-5, atol=1e-6)
    memory = model.encode(torch.tensor([SOURCE]))
    state = model.start(memory, 1)
    for i, token in enumerate(TARGET):
        features, alpha, state = model.step(memory, state, torch.tensor([token]))
        torch.testing.assert_close(features[0], expected[i], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alpha[0], alphas[i], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("readout", ["previous", "current"])
def test_its_gradient_is_that_of_the_naive_loop(readout: str) -> None:
    model = model_of(readout).double()
    torch.set_default_dtype(torch.double)
    try:
        weights = torch.randn(len(TARGET), 5)
        parameters = {name: p for name, p in model.named_parameters() if not name.startswith("W_o")}
        loss = (model(torch.tensor([SOURCE]), torch.tensor([TARGET]))[0] * weights).sum()
        mine = torch.autograd.grad(loss, parameters.values())
        automatic = torch.autograd.grad((naive(model, SOURCE, TARGET)[0] * weights).sum(), parameters.values())
    finally:
        torch.set_default_dtype(torch.float)
    for name, gradient, expected in zip(parameters, mine, automatic, strict=True):
        if name == "target_embedding.weight":  # y_0 stays at 0
            assert (gradient[BEGIN] == 0).all()
            expected[BEGIN] = 0
        torch.testing.assert_close(gradient, expected, msg=lambda text, name=name: f"{name}: {text}")


def test_the_gradient_with_padding_is_the_numerical_one() -> None:
    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.double, requires_grad=True)

    torch.manual_seed(0)
    visible = torch.tensor([[True] * 4, [True, True, False, False]])
    s, gates, keys, values = random(2, 3), random(3, 2, 9), random(2, 4, 5), random(2, 4, 9)
    assert torch.autograd.gradcheck(
        lambda s, gates, keys, values, *weights: _Decoder.apply(s, gates, keys, values, visible, *weights),
        (s, gates, keys, values, random(5, 3), random(5), random(9, 3)),
    )


def test_padding_gets_no_gradient(batch: dict[str, Tensor]) -> None:
    model = model_of()
    cross_entropy(model, batch)[0].backward()
    for embedding in (model.source_embedding, model.target_embedding):
        assert (embedding.weight.grad[PAD] == 0).all()
        assert (embedding.weight.grad[END].abs().sum() > 0) == (embedding is model.source_embedding)


def test_it_learns_two_sentences_by_heart() -> None:
    torch.manual_seed(0)
    model: Translator = Bahdanau(
        BahdanauConfig(embedding_dim=16, hidden_size=24, attention_size=16, maxout_size=16, dropout=0), 20
    )  # from the paper's weights
    source = torch.tensor([[5, 6, 7, END], [6, 5, END, PAD]])
    target = torch.tensor([[BEGIN, 8, 9, 10, END], [BEGIN, 11, 8, END, PAD]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        loss, tokens = cross_entropy(model, {"source": source, "target": target})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() / tokens < 0.05


def test_weights_start_as_in_the_paper() -> None:
    model = Bahdanau(BahdanauConfig(embedding_dim=50, hidden_size=60, attention_size=70, maxout_size=40), 90)
    for name, std in {"W_a": 0.001, "U_a": 0.001, "W_s": 0.01, "C": 0.01, "U_o": 0.01, "W_o": 0.01}.items():
        assert getattr(model, name).weight.std().item() == pytest.approx(std, rel=0.1)
    assert all((p == 0).all() for name, p in model.named_parameters() if p.dim() == 1)  # v_a and all biases
    for recurrent in (u for cell in (model.forwards, model.backwards, model.decoder) for u in cell.U.chunk(3)):
        torch.testing.assert_close(recurrent @ recurrent.t(), torch.eye(60), rtol=0, atol=1e-5)


def test_the_paper_s_model_has_the_paper_s_weights() -> None:
    m, n, n_, l, types = 620, 1000, 1000, 500, 30_000  # noqa: E741
    with torch.device("meta"):
        model = Bahdanau(BahdanauConfig.model_validate({"preset": "paper"}), types)
    expected = {
        "embeddings": 2 * types * m,
        "encoder": 2 * (3 * (n * m + n * n) + 3 * n),
        "decoder": 3 * (n * m + n * n + 2 * n * n) + 3 * n,
        "s_0": n * n + n,
        "alignment": n_ * n + n_ * 2 * n + n_,
        "t": 2 * l * (n + m + 2 * n) + 2 * l,
        "output": l * types + types,
    }
    assert sum(p.numel() for p in model.parameters()) == sum(expected.values()) == 80_442_000
    training = model.config.training
    assert (training.optimizer, training.learning_rate, training.max_grad_norm) == ("adadelta", 1.0, 1.0)
