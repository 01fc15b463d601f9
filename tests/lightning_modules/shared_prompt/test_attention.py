"""Packed trees against separate rows: the same states, loss and gradient."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    GPT2Config,
    GPTJConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from core.errors import InputError
from lightning_modules.prefix_tuning.prefix import Prefix, PrefixConfig, cache, cache_shape
from lightning_modules.shared_prompt import attention as packing

SIZES: dict[str, Any] = {"vocab_size": 90, "num_labels": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA = {**SIZES, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS: dict[str, PreTrainedConfig] = {
    "multi-head": LlamaConfig(**LLAMA, num_key_value_heads=4),
    "grouped-query": LlamaConfig(**LLAMA, num_key_value_heads=2),
    "gpt2": GPT2Config(**SIZES, n_embd=32, n_layer=2, n_head=4),
    "qwen2": Qwen2Config(**LLAMA, num_key_value_heads=1, use_sliding_window=False),
}
Tree = tuple[list[int], list[list[int]]]


def trees(counts: tuple[int, ...], longest: int = 8, seed: int = 0) -> list[Tree]:
    random = np.random.default_rng(seed)

    def text() -> list[int]:
        return random.integers(5, 90, random.integers(1, longest)).tolist()

    return [(text(), [text() for _ in range(k)]) for k in counts]


def separate(model: PreTrainedModel, groups: list[Tree]) -> torch.Tensor:
    """The head's value at the last token of each trunk and branch, read as a row of its own by the ordinary model."""
    rows = [torch.tensor([trunk + branch]) for trunk, branches in groups for branch in branches]
    return torch.cat([model.score(model.base_model(row, use_cache=False).last_hidden_state[0, -1]) for row in rows])


def packed(model: PreTrainedModel, groups: list[Tree], **options: Any) -> torch.Tensor:
    together = packing.pack(groups)
    found: torch.Tensor = model.score(packing.states(model.base_model, together, **options)[together.ends()])
    return found[:, 0]


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(copy.deepcopy(CONFIGS[request.param])).eval()


@pytest.mark.parametrize("groups", [trees((4, 1, 9, 2)), trees((3,)), [([7, 8], [[9, 10], [11, 12]])]])
def test_rewards_and_gradients_are_those_of_separate_rows(model: PreTrainedModel, groups: list[Tree]) -> None:
    weights = torch.randn(sum(len(branches) for _, branches in groups))

    def gradients(values: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        (weights * values).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected = separate(model, groups)
    by_rows = gradients(expected)
    packing.prepare(model)
    found = packed(model, groups)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    by_trees = gradients(found)
    assert by_trees.keys() == by_rows.keys()
    for name, expected_gradient in by_rows.items():
        torch.testing.assert_close(by_trees[name], expected_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scores", [packing.SCORES, 0])  # attention by products, and torch's fused one
def test_in_bf16_rewards_and_gradients_differ_by_its_rounding_only(
    model: PreTrainedModel, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SCORES", scores)
    for module in model.modules():
        if hasattr(module, "scaling"):
            module.scaling = 0.7  # not what follows from the size of a head
    for p in model.parameters():
        p.data *= 5 if p.dim() == 2 else 1  # attention prefers some tokens to others
    groups = trees((4, 1, 9, 2))

    def read(precise: bool) -> dict[str, torch.Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            values = packed(model, groups).float()
        values.square().sum().backward()
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return {"rewards": values.detach(), **found}

    packing.prepare(model)
    rounded, precise = read(precise=False), read(precise=True)
    assert rounded.keys() == precise.keys()
    for name, expected in precise.items():
        assert 0 < (rounded[name] - expected).norm() < 0.1 * expected.norm(), name  # bf16 has 8 binary digits


def test_a_prompt_is_read_once_and_nothing_is_padded(model: PreTrainedModel) -> None:
    groups = trees((4, 1, 9, 2))
    seen: list[int] = []
    packing.prepare(model)
    model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel()))
    packed(model, groups)
    assert seen == [sum(len(trunk) + sum(map(len, branches)) for trunk, branches in groups)]


def test_trunks_may_be_empty_one_or_all(model: PreTrainedModel) -> None:
    for groups in ([([], [[7, 8], [9]]), ([], [[10]])], [([], [[7, 8], [9]]), ([5, 6], [[10]])]):
        expected = separate(packing.release(model), groups)
        packing.prepare(model)
        torch.testing.assert_close(packed(model, groups), expected, rtol=1e-5, atol=1e-6)


def test_a_branch_sees_neither_its_siblings_nor_other_trees(model: PreTrainedModel) -> None:
    packing.prepare(model)
    groups = trees((3, 2), seed=1)
    before = packed(model, groups)
    changed = [(groups[0][0], [groups[0][1][0], [88, 87], [86]]), ([5, 6, 7], [[8]])]
    torch.testing.assert_close(packed(model, changed)[0], before[0], rtol=1e-5, atol=1e-6)


def test_a_prefix_stands_before_every_trunk(model: PreTrainedModel) -> None:
    groups = trees((3, 2), seed=2)
    prefix = Prefix(model, PrefixConfig(num_virtual_tokens=3, projection_input_size=8, encoder_hidden_size=8))
    shape = cache_shape(model)
    expected = []
    for trunk, branches in groups:
        for branch in branches:
            past = cache(prefix.flat(), shape, 1)
            states = model.base_model(torch.tensor([trunk + branch]), past_key_values=past).last_hidden_state
            expected.append(model.score(states[0, -1]))
    packing.prepare(model)
    found = packed(model, groups, prefixes=prefix.prefixes())
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-5, atol=1e-6)
    found.sum().backward()
    assert prefix.seed.grad is not None


def test_gradient_checkpointing_gives_the_same_gradient(model: PreTrainedModel) -> None:
    groups = trees((3, 2), seed=3)
    packing.prepare(model).train()
    found = []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(1)
        packed(model, groups).sum().backward()
        found.append(model.get_input_embeddings().weight.grad.clone())
    torch.testing.assert_close(found[1], found[0])


def test_the_gradient_is_the_same_every_time(model: PreTrainedModel) -> None:
    """Also in its rounding, with several threads; texts are long enough for these to share the work."""
    groups = [([*range(5, 90)] * 3, branches) for _, branches in trees((24,))]
    packing.prepare(model)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = []
        for _ in range(6):
            model.zero_grad()
            packed(model, groups).sum().backward()
            found.append(model.get_input_embeddings().weight.grad.clone())
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradient, found[0]) for gradient in found)


def test_a_prepared_model_refuses_ordinary_rows_until_it_is_released(model: PreTrainedModel) -> None:
    row = torch.tensor([[5, 6, 7]])
    expected = model(row).logits
    packing.prepare(model)
    with pytest.raises(ValueError, match="prepared for packed trees"):
        model(row)
    torch.testing.assert_close(packing.release(model)(row).logits, expected)


def test_attention_of_its_own_is_refused() -> None:
    config = GPTJConfig(vocab_size=90, n_embd=32, n_layer=1, n_head=4, rotary_dim=4, pad_token_id=0)
    with pytest.raises(InputError, match="gptj: its attention is its own"):
        packing.prepare(AutoModelForSequenceClassification.from_config(config))


def test_windowed_attention_is_refused() -> None:
    config = MistralConfig(**LLAMA, num_key_value_heads=2, sliding_window=4)
    with pytest.raises(InputError, match="mistral: its attention has a sliding window"):
        packing.prepare(AutoModelForSequenceClassification.from_config(config))
