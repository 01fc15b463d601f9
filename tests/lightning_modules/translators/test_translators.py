"""What holds for every translator."""

import numpy as np
import pytest
import torch
from torch import Tensor

from core.config import validated
from core.errors import InputError
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.decoding.translation import DecodingConfig, beam_search
from lightning_modules.translators.base import Translator, architecture
from lightning_modules.translators.config import architectures
from lightning_modules.translators.module import cross_entropy
from lightning_modules.translators.transformer.model import TransformerConfig


def test_architectures_are_found_by_their_package() -> None:
    assert {"bahdanau", "gru", "luong", "seq2seq", "transformer"} <= set(architectures())
    for name in architectures():
        assert architecture(name).__module__ == f"lightning_modules.translators.{name}.model"
    with pytest.raises(InputError, match=r"unknown architecture 'transformr' - did you mean 'transformer'\?"):
        architecture("transformr")


def test_stepping_gives_what_decoding_at_once_gives(translator: Translator, batch: dict[str, Tensor]) -> None:
    target = batch["target"][:, :-1]
    at_once = translator(batch["source"], target)
    memory = translator.encode(batch["source"])
    state = translator.start(memory, 1)
    for t in range(target.shape[1]):
        features, attention, state = translator.step(memory, state, target[:, t])
        torch.testing.assert_close(features, at_once[:, t], rtol=1e-5, atol=1e-5)
        if attention is not None:
            if getattr(translator.config, "attention", "global") == "local-p":  # its Gaussian takes some away
                assert (attention.sum(1) < 1).all()
            else:
                torch.testing.assert_close(attention.sum(1), torch.ones(3))
            assert (attention >= 0).all()
            assert (attention[batch["source"] == PAD] == 0).all()


def test_beams_of_a_sentence_share_its_memory(translator: Translator, batch: dict[str, Tensor]) -> None:
    memory = translator.encode(batch["source"])
    state = translator.start(memory, 2)
    previous = torch.tensor([BEGIN, 4, 5, 6, 7, 8])
    together, _, _ = translator.step(memory, state, previous)
    for beam in (0, 1):
        alone, _, _ = translator.step(memory, translator.start(memory, 1), previous[beam::2])
        torch.testing.assert_close(together[beam::2], alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def log_probability(model: Translator, source: Tensor, target: Tensor) -> Tensor:
    """(B,) log p(target | source), written out."""
    weight, bias = model.output
    scores = torch.nn.functional.linear(model(source, target[:, :-1]), weight, bias).log_softmax(-1)
    return scores.gather(2, target[:, 1:, None]).squeeze(2).masked_fill(target[:, 1:] == PAD, 0).sum(1)


@pytest.mark.parametrize("more", [(0, 3), (3, 0), (2, 1)])
def test_the_side_of_the_padding_changes_nothing(
    translator: Translator, batch: dict[str, Tensor], more: tuple[int, int]
) -> None:
    """Sources padded on the left, and with more padding than needed: scores, translations and attention are the same."""
    left = torch.stack([torch.cat([row[row == PAD], row[row != PAD]]) for row in batch["source"]])
    padded = torch.nn.functional.pad(left if more[0] else batch["source"], more, value=PAD)
    expected, log_p = (log_probability(translator, source, batch["target"]) for source in (batch["source"], padded))
    torch.testing.assert_close(log_p, expected, rtol=1e-5, atol=1e-5)
    config = DecodingConfig(beam_size=2, extra_tokens=2, alignments=True)
    for hypothesis, other in zip(
        beam_search(translator, batch["source"], config), beam_search(translator, padded, config), strict=True
    ):
        assert hypothesis[0].tokens == other[0].tokens
        assert hypothesis[0].score == pytest.approx(other[0].score, abs=1e-5)
        if hypothesis[0].alignment is not None:
            np.testing.assert_allclose(hypothesis[0].alignment, other[0].alignment, atol=1e-5)


def test_padding_changes_nothing(translator: Translator, batch: dict[str, Tensor]) -> None:
    together = log_probability(translator, batch["source"], batch["target"])
    for i in range(3):
        source, target = (batch[side][i] for side in ("source", "target"))
        alone = log_probability(translator, source[source != PAD][None], target[target != PAD][None])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)


def test_the_loss_counts_target_tokens_once(translator: Translator, batch: dict[str, Tensor]) -> None:
    loss, tokens = cross_entropy(translator, batch)
    assert tokens == 8
    assert loss.item() == pytest.approx(
        -log_probability(translator, batch["source"], batch["target"]).sum().item(), rel=1e-5
    )


def test_every_weight_learns(translator: Translator, batch: dict[str, Tensor]) -> None:
    cross_entropy(translator.train(), batch, 0.1)[0].backward()
    for name, parameter in translator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_half_precision_autocast_is_near(translator: Translator, batch: dict[str, Tensor]) -> None:
    """Recurrent states stay in single precision: in half torch has no kernel for them here, and takes float16 on a GPU."""
    expected, _ = cross_entropy(translator, batch)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = cross_entropy(translator, batch)
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)
    loss.backward()
    gradients = [p.grad for p in translator.parameters() if p.grad is not None]
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


def test_steps_under_autocast_are_near(translator: Translator, batch: dict[str, Tensor]) -> None:
    """Recurrent states that are sums over all steps (s, c, the gated units' h) stay in single precision."""
    steps, states = {}, {}
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            memory = translator.encode(batch["source"])
            state, of_steps = translator.start(memory, 1), []
            for previous in batch["target"][:, :-1].unbind(1):
                features, _, state = translator.step(memory, state, previous)
                of_steps.append(features.float())
            steps[enabled], states[enabled] = torch.stack(of_steps), state
    torch.testing.assert_close(steps[True], steps[False], rtol=0.1, atol=0.1)
    sums = {"Luong": {"c"}, "Transformer": set()}.get(type(translator).__name__, set(states[True]))
    assert all(states[True][name].dtype == torch.float32 for name in sums), {
        n: x.dtype for n, x in states[True].items()
    }


def test_ten_steps_overfit_a_batch(translator: Translator, batch: dict[str, Tensor]) -> None:
    optimizer = torch.optim.Adam(translator.parameters(), lr=0.02)
    losses = []
    for _ in range(10):
        loss, tokens = cross_entropy(translator, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / tokens)
    assert losses[-1] < 0.6 * losses[0]


def test_the_end_token_is_part_of_the_source(translator: Translator) -> None:
    with_end = translator(torch.tensor([[5, 6, END]]), torch.tensor([[BEGIN]]))
    without = translator(torch.tensor([[5, 6]]), torch.tensor([[BEGIN]]))
    assert not torch.allclose(with_end, without)


def test_a_preset_is_changed_key_by_key() -> None:
    values = {"preset": "base", "dropout": 0.2, "training": {"num_train_epochs": 3}}
    config = TransformerConfig.model_validate(values)
    assert (config.num_layers, config.hidden_size, config.dropout) == (6, 512, 0.2)
    assert (config.training.num_train_epochs, config.training.batch_tokens, config.training.warmup_steps) == (
        3,
        25_000,
        4000,
    )
    with pytest.raises(InputError, match="did you mean 'base'"):
        validated(TransformerConfig, {"preset": "bsae"}, "params.yaml")
