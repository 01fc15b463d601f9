"""Shared prompts against separate rows: the same states and gradients; and who owns the attention."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import CheckpointError
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
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.key_values import cache_shape, prefix_cache
from lightning_modules.prefix_tuning.prefix import Prefix
from lightning_modules.shared_prompt import attention
from lightning_modules.shared_prompt.reading import (
    ATTENTION,
    check_shared_prompts,
    ordinary_attention,
    shared_prompt_attention,
    shared_prompt_states,
)
from lightning_modules.shared_prompt.row import PromptContinuations, shared_prompt_row

SIZES: dict[str, Any] = {"vocab_size": 90, "num_labels": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA = {**SIZES, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS: dict[str, PreTrainedConfig] = {
    "multi-head": LlamaConfig(**LLAMA, num_key_value_heads=4),
    "grouped-query": LlamaConfig(**LLAMA, num_key_value_heads=2),
    "gpt2": GPT2Config(**SIZES, n_embd=32, n_layer=2, n_head=4),
    "qwen2": Qwen2Config(**LLAMA, num_key_value_heads=1, use_sliding_window=False),
}


def texts_of(counts: tuple[int, ...], longest: int = 8, seed: int = 0) -> list[PromptContinuations]:
    random = np.random.default_rng(seed)

    def text() -> list[int]:
        return random.integers(5, 90, random.integers(1, longest)).tolist()

    return [(text(), [text() for _ in range(k)]) for k in counts]


def separate(model: PreTrainedModel, texts: list[PromptContinuations]) -> torch.Tensor:
    """The head's value at the last token of each prompt with a continuation, read as a row of its own by the ordinary model."""
    rows = [torch.tensor([prompt + continuation]) for prompt, continuations in texts for continuation in continuations]
    return torch.cat([model.score(model.base_model(row, use_cache=False).last_hidden_state[0, -1]) for row in rows])


def shared(model: PreTrainedModel, texts: list[PromptContinuations], **options: Any) -> torch.Tensor:
    row = shared_prompt_row(texts)
    rewards: torch.Tensor = model.score(shared_prompt_states(model, row, **options)[row.ends()])
    return rewards[:, 0]


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(copy.deepcopy(CONFIGS[request.param])).eval()


@pytest.mark.parametrize("texts", [texts_of((4, 1, 9, 2)), texts_of((3,)), [([7, 8], [[9, 10], [11, 12]])]])
def test_rewards_and_gradients_are_those_of_separate_rows(
    model: PreTrainedModel, texts: list[PromptContinuations]
) -> None:
    weights = torch.randn(sum(len(continuations) for _, continuations in texts))

    def gradients(values: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        (weights * values).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected = separate(model, texts)
    by_rows = gradients(expected)
    rewards = shared(model, texts)
    torch.testing.assert_close(rewards, expected, rtol=1e-5, atol=1e-6)
    by_sharing = gradients(rewards)
    assert by_sharing.keys() == by_rows.keys()
    for name, expected_gradient in by_rows.items():
        torch.testing.assert_close(by_sharing[name], expected_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scores", [attention.MAX_KEPT_SCORES, 0])  # attention by products, and torch's fused one
def test_in_bf16_rewards_and_gradients_differ_by_its_rounding_only(
    model: PreTrainedModel, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MAX_KEPT_SCORES", scores)
    for module in model.modules():
        if hasattr(module, "scaling"):
            module.scaling = 0.7  # not what follows from the size of a head
    for p in model.parameters():
        p.data *= 5 if p.dim() == 2 else 1  # attention prefers some tokens to others
    texts = texts_of((4, 1, 9, 2))

    def read(precise: bool) -> dict[str, torch.Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            values = shared(model, texts).float()
        values.square().sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return {"rewards": values.detach(), **gradients}

    rounded, precise = read(precise=False), read(precise=True)
    assert rounded.keys() == precise.keys()
    for name, expected in precise.items():
        assert 0 < (rounded[name] - expected).norm() < 0.1 * expected.norm(), name  # bf16 has 8 binary digits


def test_a_prompt_is_read_once_and_nothing_is_padded(model: PreTrainedModel) -> None:
    texts = texts_of((4, 1, 9, 2))
    check_shared_prompts(model)  # which reads small prompts, once
    seen: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel()))
    shared(model, texts)
    assert seen == [sum(len(prompt) + sum(map(len, continuations)) for prompt, continuations in texts)]


def test_prompts_may_be_empty_one_or_all(model: PreTrainedModel) -> None:
    for texts in ([([], [[7, 8], [9]]), ([], [[10]])], [([], [[7, 8], [9]]), ([5, 6], [[10]])]):
        torch.testing.assert_close(shared(model, texts), separate(model, texts), rtol=1e-5, atol=1e-6)


def test_a_continuation_sees_neither_its_siblings_nor_other_prompts(model: PreTrainedModel) -> None:
    texts = texts_of((3, 2), seed=1)
    before = shared(model, texts)
    changed = [(texts[0][0], [texts[0][1][0], [88, 87], [86]]), ([5, 6, 7], [[8]])]
    torch.testing.assert_close(shared(model, changed)[0], before[0], rtol=1e-5, atol=1e-6)


def test_a_prefix_is_read_before_every_prompt(model: PreTrainedModel) -> None:
    texts = texts_of((3, 2), seed=2)
    prefix = Prefix(model, PrefixConfig(num_virtual_tokens=3, projection_input_size=8, encoder_hidden_size=8))
    shape = cache_shape(model)
    expected = []
    for prompt, continuations in texts:
        for continuation in continuations:
            past = prefix_cache(prefix.prompt_embeddings(), shape, 1)
            states = model.base_model(torch.tensor([prompt + continuation]), past_key_values=past).last_hidden_state
            expected.append(model.score(states[0, -1]))
    rewards = shared(model, texts, prefixes=prefix.prefixes())
    torch.testing.assert_close(rewards, torch.cat(expected), rtol=1e-5, atol=1e-6)
    rewards.sum().backward()
    assert prefix.seed.grad is not None


def test_gradient_checkpointing_gives_the_same_gradient(model: PreTrainedModel) -> None:
    texts = texts_of((3, 2), seed=3)
    model.train()
    embedding_gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(1)
        with shared_prompt_attention(model):
            shared(model, texts).sum().backward()
        embedding_gradients.append(model.get_input_embeddings().weight.grad.clone())
    torch.testing.assert_close(embedding_gradients[1], embedding_gradients[0])


def test_the_gradient_is_the_same_every_time(model: PreTrainedModel) -> None:
    """Also in its rounding, with several threads; texts are long enough for these to share the work."""
    texts = [([*range(5, 90)] * 3, continuations) for _, continuations in texts_of((24,))]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        embedding_gradients = []
        for _ in range(6):
            model.zero_grad()
            shared(model, texts).sum().backward()
            embedding_gradients.append(model.get_input_embeddings().weight.grad.clone())
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradient, embedding_gradients[0]) for gradient in embedding_gradients)


def test_inside_the_context_ordinary_rows_are_refused_and_afterwards_read_as_before(model: PreTrainedModel) -> None:
    row = torch.tensor([[5, 6, 7]])
    expected = model(row).logits
    with shared_prompt_attention(model):
        with pytest.raises(ValueError, match="reads rows of shared prompts only"):
            model(row)
        with ordinary_attention(model):
            assert torch.equal(model(row).logits, expected)
        assert model.config._attn_implementation == ATTENTION
    assert torch.equal(model(row).logits, expected)


def test_contexts_nest_and_end_with_an_exception(model: PreTrainedModel) -> None:
    model.set_attn_implementation("eager")
    with shared_prompt_attention(model):
        with pytest.raises(KeyError), shared_prompt_attention(model):
            raise KeyError
        assert model.config._attn_implementation == ATTENTION
        with pytest.raises(KeyError), ordinary_attention(model):
            assert model.config._attn_implementation == "eager"
            raise KeyError
        assert model.config._attn_implementation == ATTENTION
    assert model.config._attn_implementation == "eager"


def test_gradient_checkpointing_outside_the_context_is_an_error_and_no_other_gradient(model: PreTrainedModel) -> None:
    model.train().gradient_checkpointing_enable()
    rewards = shared(model, texts_of((3, 2)))
    with pytest.raises(CheckpointError):
        rewards.sum().backward()


def test_a_copy_made_inside_the_context_reads_what_the_model_reads(model: PreTrainedModel) -> None:
    texts = texts_of((3, 2))
    with shared_prompt_attention(model):
        copied = copy.deepcopy(model)
    assert torch.equal(shared(copied, texts), shared(model, texts))


def test_attention_of_its_own_is_refused() -> None:
    config = GPTJConfig(vocab_size=90, n_embd=32, n_layer=1, n_head=4, rotary_dim=4, pad_token_id=0)
    with pytest.raises(InputError, match="gptj: its attention is its own"):
        check_shared_prompts(AutoModelForSequenceClassification.from_config(config))


def test_windowed_attention_is_refused() -> None:
    config = MistralConfig(**LLAMA, num_key_value_heads=2, sliding_window=4)
    with pytest.raises(InputError, match="mistral: its attention has a sliding window"):
        check_shared_prompts(AutoModelForSequenceClassification.from_config(config))
