"""Examples of shared prompts against separate rows: the same loss and gradient, for every adapter, shared or not."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, GPT2Config, LlamaConfig, PreTrainedModel

from core.errors import InputError
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.key_values import cache_shape, prefix_cache
from lightning_modules.prefix_tuning.module import target_loss
from lightning_modules.prefix_tuning.prefix import Adapter, PromptEmbedding, build_adapter
from lightning_modules.shared_prompt.examples import EncodedInput, ExampleLayout, batch_examples, shared_prompt_loader
from lightning_modules.shared_prompt.reading import shared_prompt_attention

END = 2
CONFIGS = {
    "grouped-query Llama": LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, initializer_range=0.2,
    ),
    "multi-head GPT-2": GPT2Config(
        vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=END,
        initializer_range=0.2,
    ),
}  # fmt: skip
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "prefix": ("prefix", {"projection_input_size": 8, "encoder_hidden_size": 12}),
    "flat prefix": ("prefix", {"prefix_projection": False}),
    "infix": ("prefix", {"prefix_projection": False, "position": "infix"}),
    "prompt_tuning": ("prompt_tuning", {}),
    "prompt_tuning infix": ("prompt_tuning", {"position": "infix"}),
}


@pytest.fixture(params=CONFIGS)
def base(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[request.param])).eval().requires_grad_(False)


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest, base: PreTrainedModel) -> Adapter:
    kind, settings = ADAPTERS[request.param]
    return build_adapter(kind, base, PrefixConfig(num_virtual_tokens=3, **settings), [5, 6, 7])


def inputs(counts: tuple[int, ...] = (3, 1, 5, 2), seed: int = 0) -> list[EncodedInput]:
    random = np.random.default_rng(seed)

    def text(shortest: int) -> list[int]:
        return random.integers(5, 40, random.integers(shortest, 9)).tolist()

    return [(text(2), [[*text(0), END] for _ in range(k)]) for k in counts]


def naive_logits(base: PreTrainedModel, adapter: Adapter, prompt: list[int], target: list[int]) -> torch.Tensor:
    """(T, V) scores of each target token, from one row read by the ordinary model."""
    ids, count = torch.tensor([[*prompt, *target]]), len(target)
    flat = adapter.prompt_embeddings()
    if isinstance(adapter, PromptEmbedding):
        embedded = base.get_input_embeddings()(ids)
        place = len(prompt) if adapter.infix else 0
        row = torch.cat([embedded[:, :place], flat[None], embedded[:, place:]], 1)
        logits = base(inputs_embeds=row).logits
    elif adapter.infix:
        past = base.base_model(ids[:, : len(prompt) - 1], use_cache=True).past_key_values
        trained = prefix_cache(flat, cache_shape(base), 1)
        joined = [
            (torch.cat([a.keys, b.keys], 2), torch.cat([a.values, b.values], 2))
            for a, b in zip(past.layers, trained.layers, strict=True)
        ]
        logits = base(ids[:, len(prompt) - 1 :], past_key_values=DynamicCache(ddp_cache_data=joined)).logits
    else:
        logits = base(ids, past_key_values=prefix_cache(flat, cache_shape(base), 1)).logits
    scores: torch.Tensor = logits[0, -count - 1 : -1]
    return scores


def naive_loss(base: PreTrainedModel, adapter: Adapter, cases: list[EncodedInput]) -> torch.Tensor:
    total = torch.zeros(())
    for prompt, targets in cases:
        for target in targets:
            logits = naive_logits(base, adapter, list(prompt), list(target))
            total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="sum")
    return total


def singles(cases: list[EncodedInput]) -> list[EncodedInput]:
    return [(prompt, [target]) for prompt, targets in cases for target in targets]


def gradients(adapter: Adapter, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    adapter.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in adapter.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("share", [True, False])
def test_loss_and_gradient_are_those_of_separate_rows(base: PreTrainedModel, adapter: Adapter, share: bool) -> None:
    cases = inputs()
    expected = naive_loss(base, adapter, cases)
    by_rows = gradients(adapter, expected)
    batch = batch_examples(cases if share else singles(cases), adapter.layout(share))
    loss, tokens = target_loss(base, adapter, batch)
    assert (tokens, batch.examples) == (sum(len(t) for _, targets in cases for t in targets), 11)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    by_shared_prompts = gradients(adapter, loss)
    assert by_shared_prompts.keys() == by_rows.keys()
    for name, gradient in by_rows.items():
        torch.testing.assert_close(
            by_shared_prompts[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max())
        )
    assert all(p.grad is None for p in base.parameters())


@pytest.mark.parametrize("share", [True, False])
def test_targets_of_the_end_token_alone(base: PreTrainedModel, adapter: Adapter, share: bool) -> None:
    cases: list[EncodedInput] = [([7, 8], [[END]]), ([9, 10, 11], [[END]])]
    expected = naive_loss(base, adapter, cases)
    loss, _ = target_loss(base, adapter, batch_examples(cases, adapter.layout(share)))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


def test_an_input_is_read_once_and_a_targets_last_token_never(base: PreTrainedModel) -> None:
    cases = inputs()
    none = build_adapter("none", base, PrefixConfig(), None)
    prompts, targets = sum(len(p) for p, _ in cases), [len(t) - 1 for _, ts in cases for t in ts]
    shared = batch_examples(cases, none.layout(True))
    assert shared.row.tokens.numel() == prompts + sum(targets)
    unshared = batch_examples(singles(cases), none.layout(False))
    assert unshared.row.tokens.numel() == sum(len(p) * len(ts) for p, ts in cases) + sum(targets)


def test_gradient_checkpointing_gives_the_same_loss_and_gradient(base: PreTrainedModel, adapter: Adapter) -> None:
    from lightning_modules.prefix_tuning.gradient_checkpointing import checkpoint_layers

    batch = batch_examples(inputs(), adapter.layout())
    plain, _ = target_loss(base, adapter, batch)
    expected = gradients(adapter, plain)
    assert checkpoint_layers(base) == base.config.num_hidden_layers
    runs: list[int] = []
    base.base_model.get_submodule(
        "layers.0.mlp" if hasattr(base.base_model, "layers") else "h.0.mlp"
    ).register_forward_pre_hook(lambda *_: runs.append(1))
    with shared_prompt_attention(base):
        loss, _ = target_loss(base, adapter, batch)
        checkpointed = gradients(adapter, loss)
    torch.testing.assert_close(loss, plain, rtol=0, atol=0)
    assert checkpointed.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-6, atol=1e-7)
    assert len(runs) == 2  # once forward, once again for the gradient


def test_half_precision_autocast_is_near(base: PreTrainedModel, adapter: Adapter) -> None:
    batch = batch_examples(inputs(), adapter.layout())
    expected, tokens = target_loss(base, adapter, batch)
    exact = gradients(adapter, expected)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = target_loss(base, adapter, batch)
    assert loss.item() / tokens == pytest.approx(expected.item() / tokens, rel=0.03)
    for name, gradient in gradients(adapter, loss).items():
        similarity = torch.nn.functional.cosine_similarity(gradient.flatten(), exact[name].flatten(), dim=0)
        assert similarity > 0.95, name


def test_dropout_is_on_the_prefix_while_training_only(base: PreTrainedModel) -> None:
    for kind in ("prefix", "prompt_tuning"):
        dropped = build_adapter(
            kind, base, PrefixConfig(num_virtual_tokens=3, dropout=0.5, prefix_projection=False), [5, 6, 7]
        )
        batch = batch_examples(inputs(), dropped.layout())
        first, second = (target_loss(base, dropped.train(), batch)[0] for _ in range(2))
        assert first != second
        torch.testing.assert_close(target_loss(base, dropped.eval(), batch)[0], naive_loss(base, dropped, inputs()))


def test_batches_keep_the_budget_and_hold_every_target_once(caplog: pytest.LogCaptureFixture) -> None:
    cases = inputs((9, 1, 1, 2, 40, 3, 5, 1, 1, 2, 6), seed=3)
    for share, budget in ((True, 60), (False, 40)):
        loader = shared_prompt_loader(
            cases, ExampleLayout(virtual_tokens=2, share_references=share), budget, max_length=100, seed=1
        )
        epochs = [list(loader), list(loader)]
        assert len(epochs[0]) == len(epochs[1]) == len(loader)
        for batches in epochs:
            assert all(b.row.tokens.numel() <= budget for b in batches)
            assert sum(b.examples for b in batches) == 71
            assert sum(b.targets.numel() for b in batches) == sum(len(t) for _, ts in cases for t in ts)
        assert [b.row.tokens.tolist() for b in epochs[0]] != [b.row.tokens.tolist() for b in epochs[1]]
        together = sum(b.row.tokens.numel() for b in epochs[0])
        assert len(loader) <= together / budget * 1.3 + 1  # well filled
    assert "11 inputs are cut into" in caplog.text


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (([7], [[]]), "input 2 of 2: an empty target"),
        (([7], []), "input 2 of 2: an empty target"),
        (([], [[8, END]]), "input 2 of 2: the prompt is empty"),
        (([7] * 9, [[8, END]]), "have 11 tokens; beside the virtual tokens the base reads 10"),
    ],
)
def test_examples_that_cannot_be_read_are_errors(case: EncodedInput, message: str) -> None:
    with pytest.raises(InputError, match=message):
        shared_prompt_loader([([7, 8], [[9, END]]), case], ExampleLayout(), 100, max_length=10)
