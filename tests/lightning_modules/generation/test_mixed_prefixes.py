"""Many prefixes in one batch: every row is what it is with its own prefix alone."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedModel

from core.errors import InputError
from data.batching import padded
from lightning_modules.generation.generate import GenerateConfig, generate
from lightning_modules.generation.mixed_prefixes import MixedPrefixes
from lightning_modules.generation.transformers_generate import transformers_generate
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.prefix import Adapter, NoPrefix, build_adapter
from lightning_modules.shared_prompt.reading import shared_prompt_states
from lightning_modules.shared_prompt.row import shared_prompt_row

TEXTS = [[7, 8], [9, 10, 11, 12], [13], [14, 15, 16], [17, 18]]
NAMES = ["short", "long", "words", "none", "long"]
END = 2


@pytest.fixture(params=["grouped-query Llama", "multi-head GPT-2"])
def base(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    if request.param == "multi-head GPT-2":
        config: GPT2Config | LlamaConfig = GPT2Config(
            vocab_size=30, n_embd=16, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=END,
            initializer_range=0.3,
        )  # fmt: skip
    else:
        config = LlamaConfig(
            vocab_size=30, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=True, initializer_range=0.3,
        )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


@pytest.fixture
def adapters(base: PreTrainedModel) -> dict[str, Adapter]:
    def of(length: int, kind: str = "prefix") -> Adapter:
        return build_adapter(
            kind,
            base,
            PrefixConfig(num_virtual_tokens=length, projection_input_size=8, encoder_hidden_size=12),
            [3, 4, 5, 6][:length],
        ).eval()

    return {"short": of(2), "long": of(4), "words": of(3, "prompt_tuning"), "none": NoPrefix()}


def test_rows_are_what_they_are_with_their_prefix_alone(base: PreTrainedModel, adapters: dict[str, Adapter]) -> None:
    states = MixedPrefixes(base, adapters).rows(NAMES).states(padded(TEXTS))
    for row, text, name in zip(states, TEXTS, NAMES, strict=True):
        alone = adapters[name].states(base, torch.tensor([text]))[0]
        torch.testing.assert_close(row[: len(text)], alone, rtol=1e-5, atol=1e-5)


def test_shared_prompts_are_what_they_are_with_their_prefix_alone(
    base: PreTrainedModel, adapters: dict[str, Adapter]
) -> None:
    continuations = [[19, 20], [21]]
    row = shared_prompt_row([(text, continuations) for text in TEXTS])
    ends = shared_prompt_states(base, row, MixedPrefixes(base, adapters).prefixes(NAMES))[row.ends()]
    separate = [(name, [*text, *c]) for name, text in zip(NAMES, TEXTS, strict=True) for c in continuations]
    for state, (name, text) in zip(ends, separate, strict=True):
        alone = adapters[name].states(base, torch.tensor([text]))[0, -1]
        torch.testing.assert_close(state, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("batch", [2, 16])
def test_rows_are_written_as_with_their_prefix_alone(
    base: PreTrainedModel, adapters: dict[str, Adapter], beams: int, batch: int
) -> None:
    rows = MixedPrefixes(base, adapters).rows(NAMES)
    together = generate(base, rows, TEXTS, [END], GenerateConfig(beam_size=beams, max_new_tokens=6), batch=batch)
    for written, text, name in zip(together, TEXTS, NAMES, strict=True):
        assert [written] == transformers_generate(base, adapters[name], [text], [END], 6, num_beams=beams)
    assert together == transformers_generate(base, rows, TEXTS, [END], 6, num_beams=beams)
    assert len({tuple(row) for row in together}) > 1


def test_unknown_names_are_errors(base: PreTrainedModel, adapters: dict[str, Adapter]) -> None:
    mixed = MixedPrefixes(base, adapters)
    with pytest.raises(InputError, match="row 2: unknown prefix 'lonk' - did you mean 'long'"):
        mixed.rows(["short", "lonk"])


def test_an_infix_does_not_mix(base: PreTrainedModel) -> None:
    infix = build_adapter(
        "prefix", base, PrefixConfig(num_virtual_tokens=2, position="infix", prefix_projection=False), None
    )
    with pytest.raises(InputError, match="between: only prefixes"):
        MixedPrefixes(base, {"between": infix})
