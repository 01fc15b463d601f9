"""Bases of other kinds than Llama and GPT-2: what works gives what plain `transformers` gives, what does not is refused."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BartConfig,
    BertConfig,
    BioGptConfig,
    CohereConfig,
    FalconConfig,
    GemmaConfig,
    GPTJConfig,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MptConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
)

from core.errors import InputError
from lightning_modules.generation.generate import GenerateConfig, generate
from lightning_modules.generation.transformers_generate import transformers_generate
from lightning_modules.prefix_tuning.base_model import check_output_layer
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.key_values import cache_shape
from lightning_modules.prefix_tuning.module import padded_loader, target_loss
from lightning_modules.prefix_tuning.prefix import NoPrefix, build_adapter
from lightning_modules.shared_prompt.examples import shared_prompt_loader
from lightning_modules.shared_prompt.reading import ATTENTION, check_shared_prompts, shared_prompt_attention

SIZES: dict[str, Any] = {"vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MIDDLE = {**SIZES, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
CONFIGS: dict[str, PreTrainedConfig] = {
    "gemma": GemmaConfig(**MIDDLE, num_key_value_heads=1, head_dim=16),
    "biogpt": BioGptConfig(**MIDDLE),
    "opt": OPTConfig(**SIZES, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32),
    "gpt_neox": GPTNeoXConfig(**MIDDLE),
    "gptj": GPTJConfig(**SIZES, n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
    "falcon": FalconConfig(**SIZES, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, multi_query=True),
    "cohere": CohereConfig(**MIDDLE, num_key_value_heads=2, logit_scale=0.25),
    "granite": GraniteConfig(**MIDDLE, num_key_value_heads=2, logits_scaling=4.0),
    "mistral": MistralConfig(**MIDDLE, num_key_value_heads=2, sliding_window=6),
    "bert": BertConfig(**MIDDLE),
    "roberta": RobertaConfig(**MIDDLE),
    "bart": BartConfig(**SIZES, **BART, encoder_attention_heads=4, decoder_attention_heads=4),
    "mpt": MptConfig(**SIZES, d_model=32, n_heads=4, n_layers=2),
    "uncached": LlamaConfig(**MIDDLE, num_key_value_heads=2, use_cache=False),
    "uncached window": MistralConfig(**MIDDLE, num_key_value_heads=2, sliding_window=6, use_cache=False),
    "longrope": Phi3Config(**MIDDLE, max_position_embeddings=64, original_max_position_embeddings=16, rope_parameters=LONGROPE),
    "small": LlamaConfig(**{**MIDDLE, "vocab_size": 6}),
    "mamba": MambaConfig(**SIZES, hidden_size=32, num_hidden_layers=2),
}  # fmt: skip
# Scores are a linear layer of the states.
LINEAR = ["gemma", "biogpt", "opt", "gpt_neox", "gptj", "falcon", "mistral", "mpt", "uncached", "uncached window"]
EXAMPLES = [([5, 6, 7, 8, 9, 10, 11], [12, 13, 2]), ([20, 21, 22], [23, 24, 25, 2]), ([30], [31, 2])]


def model_of(name: str, kind: Any = AutoModelForCausalLM) -> PreTrainedModel:
    torch.manual_seed(0)
    model = kind.from_config(copy.deepcopy(CONFIGS[name])).eval()
    for parameter in model.parameters():  # biases and norms that are not what they start as
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(
    ("name", "kind"), [("bert", AutoModel), ("roberta", AutoModel), ("bart", AutoModelForCausalLM)]
)
def test_what_sharing_prompts_would_change_is_refused(name: str, kind: Any) -> None:
    model = model_of(name, kind)
    row = torch.tensor([[5, 6, 7]])
    before = model(row)[0]
    with pytest.raises(InputError, match=f"{name}: .*Choose another backbone"):
        check_shared_prompts(model)
    torch.testing.assert_close(model(row)[0], before)


def test_positions_that_depend_on_the_batch_are_refused() -> None:
    with pytest.raises(InputError, match="phi3: its longrope positions depend on the longest text"):
        check_shared_prompts(model_of("longrope"))


@pytest.mark.parametrize("name", ["small", "gemma", "falcon", "mpt"])
def test_a_check_leaves_the_attention_that_was_there(name: str) -> None:
    model = model_of(name)
    row = torch.tensor([[3, 4, 5]])
    before = model(row).logits
    try:
        check_shared_prompts(model)
    except InputError:
        assert name in ("falcon", "mpt")
    torch.testing.assert_close(model(row).logits, before)


def test_the_attention_before_is_given_back() -> None:
    model = model_of("gemma")
    model.set_attn_implementation("eager")
    with shared_prompt_attention(model):
        pass
    assert model.config._attn_implementation == "eager"


def test_a_check_leaves_the_modes_that_were_there() -> None:
    model = model_of("opt").train()
    model.base_model.decoder.layers[0].eval()
    modes = [module.training for module in model.modules()]
    check_shared_prompts(model)
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("kind", ["none", "prefix", "prompt_tuning"])
def test_the_loss_is_that_of_the_models_own_scores(name: str, kind: str) -> None:
    model = model_of(name)
    check_output_layer(model)
    words = [40, 41, 42]
    adapter = build_adapter(kind, model, PrefixConfig(num_virtual_tokens=3, prefix_projection=False), words).eval()
    read = [] if kind == "none" else words  # a prefix that starts from words is these words
    expected = 0.0
    for prompt, target in EXAMPLES:
        logits = model(torch.tensor([read + prompt + target])).logits[0, len(read) + len(prompt) - 1 : -1]
        expected += float(F.cross_entropy(logits, torch.tensor(target), reduction="sum"))
    losses = [sum(float(target_loss(model, adapter, batch)[0]) for batch in padded_loader(EXAMPLES, 64))]
    try:
        loader = shared_prompt_loader([(p, [t]) for p, t in EXAMPLES], adapter.layout(), 64, max_length=32)
        losses.append(sum(float(target_loss(model, adapter, batch)[0]) for batch in loader))
    except InputError:
        assert name in ("gptj", "falcon", "mistral", "mpt", "uncached window")
    assert losses == pytest.approx([expected] * len(losses), rel=1e-4)


@pytest.mark.parametrize("name", ["cohere", "granite"])
def test_scores_that_are_not_linear_are_refused_in_training(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: its scores are more than a linear layer"):
        check_output_layer(model_of(name))


def naive_greedy(model: PreTrainedModel, read: list[int], most: int) -> list[int]:
    """Without a cache: the whole text is read again for every token."""
    written: list[int] = []
    while len(written) < most:
        token = int(model(torch.tensor([read + written]), use_cache=False).logits[0, -1].argmax())
        if token == 2:
            break
        written.append(token)
    return written


@pytest.mark.parametrize("name", [*LINEAR, "cohere", "granite"])
def test_it_writes_what_reading_the_words_would_write(name: str) -> None:
    model = model_of(name)
    model.generation_config.repetition_penalty = 3.0  # a folder's own taste does not count
    words, prompts = [40, 41], [prompt for prompt, _ in EXAMPLES] + [[33, 34, 35], list(range(5, 30))]
    adapter = build_adapter("prefix", model, PrefixConfig(num_virtual_tokens=2, prefix_projection=False), words).eval()
    expected = [naive_greedy(model, words + prompt, 8) for prompt in prompts]
    assert len({tuple(e) for e in expected}) > 1
    assert generate(model, adapter, prompts, [2], GenerateConfig(max_new_tokens=8)) == expected
    assert model.generation_config.repetition_penalty == 3.0


@pytest.mark.parametrize("name", [*LINEAR, "cohere", "granite", "longrope"])
def test_beams_are_those_of_each_prompt_alone(name: str) -> None:
    model = model_of(name)
    adapter = build_adapter(
        "prefix", model, PrefixConfig(num_virtual_tokens=2, prefix_projection=False), [40, 41]
    ).eval()
    prompts = [prompt for prompt, _ in EXAMPLES] + [[33, 34, 35], list(range(5, 30))]
    expected = [transformers_generate(model, adapter, [p], [2], 8, num_beams=3)[0] for p in prompts]
    assert len({tuple(e) for e in expected}) > 1
    assert generate(model, adapter, prompts, [2], GenerateConfig(beam_size=3, max_new_tokens=8)) == expected


def test_samples_of_a_base_left_to_transformers_are_refused() -> None:
    with pytest.raises(InputError, match=r"cohere: .*only greedy and beam search"):
        generate(model_of("cohere"), NoPrefix(), [[5, 6]], [2], GenerateConfig(method="sample", max_new_tokens=2))


def test_a_beam_wider_than_the_base_has_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="a beam of 4 is too wide: the base has 6 tokens"):
        generate(model_of("small"), NoPrefix(), [[3, 4]], [2], GenerateConfig(beam_size=4, max_new_tokens=2))


def test_being_in_training_mode_once_does_not_count_for_good() -> None:
    model = model_of("opt").train()
    generate(model, NoPrefix(), [[5, 6]], [2], GenerateConfig(max_new_tokens=2))
    generate(model.eval(), NoPrefix(), [[5, 6]], [2], GenerateConfig(method="sample", max_new_tokens=2))


def test_inside_the_context_a_base_can_be_asked_for_its_shape() -> None:
    model = model_of("gemma")
    with shared_prompt_attention(model):
        build_adapter("prefix", model, PrefixConfig(num_virtual_tokens=2, prefix_projection=False), [40, 41])
        check_output_layer(model)
        assert model.config._attn_implementation == ATTENTION


def test_the_shape_of_keys_is_the_bases_own() -> None:
    assert cache_shape(model_of("falcon")) == (2, 1, 8)
    assert cache_shape(model_of("gemma")) == (2, 1, 16)
    assert cache_shape(model_of("gptj")) == (2, 4, 8)


def test_a_base_without_keys_is_refused() -> None:
    with pytest.raises(InputError, match="mamba: it keeps no keys"):
        cache_shape(model_of("mamba"))
