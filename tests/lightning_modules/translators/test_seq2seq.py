"""The deep LSTMs of Sutskever et al. against their equations, one number at a time where it matters."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data.batching import padded
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.decoding.translation import DecodingConfig, alignment, translate
from lightning_modules.training.optimization import optimization
from lightning_modules.translators.module import TranslatorModule, cross_entropy
from lightning_modules.translators.seq2seq.model import Seq2Seq, Seq2SeqConfig
from stages.evaluation import heat_map


def small(**config: Any) -> Seq2Seq:
    torch.manual_seed(2)
    return Seq2Seq(Seq2SeqConfig(**{"embedding_dim": 6, "hidden_size": 8, "init": 0.6, **config}), 20).eval()


def naive_step(lstm: nn.LSTM, x: Tensor, state: list[tuple[Tensor, Tensor]]) -> Tensor:
    """One token through all layers, whose (h, c) in `state` it replaces; the top layer's h."""
    for i, (h, c) in enumerate(state):
        w_x, w_h, b_x, b_h = (
            getattr(lstm, f"{name}_l{i}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        net = w_x @ x + b_x + w_h @ h + b_h
        n = len(h)
        y_in, forget, g, y_out = net[:n], net[n : 2 * n], net[2 * n : 3 * n], net[3 * n :]
        c = torch.sigmoid(forget) * c + torch.sigmoid(y_in) * torch.tanh(g)
        x = torch.sigmoid(y_out) * torch.tanh(c)
        state[i] = (x, c)
    return x


def naive(model: Seq2Seq, source: list[int], target: list[int]) -> Tensor:
    """Features of each target position of one sentence."""
    s = model.config
    state = [(torch.zeros(s.hidden_size), torch.zeros(s.hidden_size)) for _ in range(s.num_layers)]
    for token in reversed(source) if s.reverse_source else source:
        naive_step(model.encoder, model.source_embedding.weight[token], state)
    return torch.stack([naive_step(model.decoder, model.target_embedding.weight[token], state) for token in target])


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("reverse", [True, False])
def test_it_equals_the_naive_loop(layers: int, reverse: bool) -> None:
    model = small(num_layers=layers, reverse_source=reverse)
    sources, targets = [[5, 6, 7, 8, END], [9, END]], [[BEGIN, 8], [BEGIN, 9, 10, 11]]
    with torch.no_grad():
        features = model(padded(sources), padded(targets))
        for i, (source, target) in enumerate(zip(sources, targets, strict=True)):
            expected = naive(model, source, target)
            torch.testing.assert_close(features[i, : len(target)], expected, rtol=1e-5, atol=1e-6)


def test_equal_lengths_without_packing_give_what_packing_gives() -> None:
    model = small()
    source = torch.tensor([[5, 6, END], [7, 8, END]])
    unpacked = model.encode(source)
    packed = model.encode(nn.functional.pad(source, (0, 2), value=PAD))
    for name, value in unpacked.items():
        torch.testing.assert_close(packed[name], value)


def test_the_papers_model_has_384_million_weights() -> None:
    config = Seq2SeqConfig.model_validate({"preset": "paper"})
    with torch.device("meta"):
        model = Seq2Seq(config, 80_000)
    weights = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    # The paper's source vocabulary is 80,000 larger than the target's. Its 64M "recurrent" weights are both LSTMs.
    assert weights + 80_000 * 1000 == 384_000_000
    lstms = [sum(p.numel() for p in lstm.parameters() if p.dim() > 1) for lstm in (model.encoder, model.decoder)]
    assert lstms == [32_000_000, 32_000_000]
    assert config.dropout == 0


def test_every_weight_starts_uniform_within_the_bounds() -> None:
    model = Seq2Seq(Seq2SeqConfig(embedding_dim=32, hidden_size=32), 100)
    for name, parameter in model.named_parameters():
        assert 0.07 < parameter.abs().max() <= 0.08, name
        assert abs(parameter.mean()) < 0.08 / 3**0.5 / parameter.numel() ** 0.5 * 5, name


def test_the_papers_schedule() -> None:
    training = Seq2SeqConfig.model_validate({"preset": "paper"}).training
    optimizers = optimization([nn.Parameter(torch.zeros(1))], training, steps_per_epoch=10, hidden_size=8)
    (group,) = optimizers["optimizer"].param_groups
    assert isinstance(optimizers["optimizer"], torch.optim.SGD)
    assert (group["momentum"], group["initial_lr"], training.max_grad_norm) == (0, 0.7, 5.0)
    (factor,) = optimizers["lr_scheduler"]["scheduler"].lr_lambdas
    assert [factor(step) for step in (0, 49, 50, 54, 55, 74)] == [1, 1, 0.5, 0.5, 0.25, 0.03125]


@pytest.mark.parametrize("norm", [5.0, 0.05])  # above and below the gradient's norm
def test_the_papers_update_from_the_shared_training_step(norm: float) -> None:
    """As the preset divides the gradient, by sentences; they may be of any lengths."""
    rate = 0.7
    batch = {
        "source": torch.tensor([[5, 6, END], [7, 8, END]]),
        "target": torch.tensor([[BEGIN, 9, 10, END], [BEGIN, 11, END, PAD]]),
    }
    papers, ours = small(), small()
    loss, _ = cross_entropy(papers, batch)
    (loss / 2).backward()  # by the sentences of the batch
    s = torch.cat([p.grad.flatten() for p in papers.parameters()]).norm()
    assert (s > norm) == (norm < 1)
    with torch.no_grad():
        for p in papers.parameters():
            p -= rate * (p.grad * norm / s if s > norm else p.grad)

    training = Seq2SeqConfig.model_validate({"preset": "paper"}).training.model_copy(update={"max_grad_norm": norm})
    assert training.learning_rate == rate
    module = TranslatorModule(ours, training, steps_per_epoch=10)
    step = module.training_step(batch, 0)
    assert float(step["train_loss"]) == pytest.approx(float(loss) / 5)  # shown for a token
    step["loss"].backward()
    nn.utils.clip_grad_norm_(ours.parameters(), training.max_grad_norm)
    optimizers = module.configure_optimizers()  # with the schedule, which holds the optimizer only weakly
    optimizers["optimizer"].step()
    for one, other in zip(papers.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_all_layers_start_from_the_encoders() -> None:
    model = small(num_layers=3)
    with torch.no_grad():
        memory = model.encode(torch.tensor([[5, 6, END]]))
        before = model.decode(memory, torch.tensor([[BEGIN]]))
        for name in ("h", "c"):
            for layer in range(3):
                changed = copy.deepcopy(memory)
                changed[name][:, layer] += 1
                assert not torch.allclose(model.decode(changed, torch.tensor([[BEGIN]])), before)


def test_no_attention_is_none_everywhere() -> None:
    model = small()
    source = padded([[5, 6, END]])
    memory = model.encode(source)
    assert model.step(memory, model.start(memory, 2), torch.tensor([BEGIN, 4])).attention is None
    assert alignment(model, source, padded([[BEGIN, 7, END]])) is None
    assert heat_map(model, None, [[5, 6, 7, 8, 9, 10]], [[11]]) is None


def test_it_learns_to_translate_two_sentences() -> None:
    model = small(hidden_size=32, init=0.2, dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    pairs = {(5, 6, 7): [8, 9], (7, 6, 5): [10, 11, 12]}
    batch = {
        "source": padded([[*source, END] for source in pairs]),
        "target": padded([[BEGIN, *target, END] for target in pairs.values()]),
    }
    for _ in range(60):
        loss, _ = cross_entropy(model.train(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    translations = dict(translate(model, [list(source) for source in pairs], DecodingConfig(beam_size=2)))
    assert [translations[i][0].tokens for i in range(2)] == list(pairs.values())
