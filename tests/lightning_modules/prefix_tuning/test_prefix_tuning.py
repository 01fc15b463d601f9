"""Prefixes: what they start from, what they leave alone, what they generate."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, GPT2Config, LlamaConfig, PreTrainedModel

from core.errors import InputError
from lightning_modules.generation.transformers_generate import transformers_generate
from lightning_modules.prefix_tuning.base_model import check_output_layer, max_text_length
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.key_values import cache_shape
from lightning_modules.prefix_tuning.module import PrefixTuningModule, padded_loader
from lightning_modules.prefix_tuning.prefix import NoPrefix, Prefix, PromptEmbedding, build_adapter
from lightning_modules.shared_prompt.examples import batch_examples
from lightning_modules.training.config import TrainingConfig

WORDS = [3, 4, 5, 6]
EXAMPLES = [([7, 8], [9, 10, 2]), ([11], [12, 2]), ([13, 14, 15], [16, 2])]


@pytest.fixture(params=["grouped-query Llama", "multi-head GPT-2"])
def base(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    if request.param == "multi-head GPT-2":
        config = GPT2Config(
            vocab_size=20, n_embd=16, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
        )
    else:
        config = LlamaConfig(
            vocab_size=20,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


@pytest.mark.parametrize("prefix_projection", [True, False])
def test_at_step_0_it_equals_prompting_with_the_words(base: PreTrainedModel, prefix_projection: bool) -> None:
    settings = PrefixConfig(
        num_virtual_tokens=4, prefix_projection=prefix_projection, projection_input_size=8, encoder_hidden_size=12
    )
    text = torch.tensor([[7, 8, 9], [10, 11, 12]])
    prompted = base.base_model(torch.cat([torch.tensor([WORDS, WORDS]), text], 1)).last_hidden_state[:, 4:]
    for variant in ("prefix", "prompt_tuning"):
        states = build_adapter(variant, base, settings, WORDS).states(base, text)
        torch.testing.assert_close(states, prompted, rtol=1e-5, atol=1e-5)
    plain = base.base_model(text).last_hidden_state
    assert not torch.allclose(plain, prompted, atol=1e-3)
    torch.testing.assert_close(NoPrefix().states(base, text), plain)


def test_parameter_count_follows_from_the_cache(base: PreTrainedModel) -> None:
    layers, heads, size = cache_shape(base)
    assert (
        Prefix(base, PrefixConfig(num_virtual_tokens=5, projection_input_size=8, encoder_hidden_size=12))
        .prompt_embeddings()
        .numel()
        == 5 * layers * 2 * heads * size
    )
    assert PromptEmbedding(base, PrefixConfig(num_virtual_tokens=5)).prompt_embeddings().numel() == 5 * 16


@pytest.mark.parametrize("variant", ["prefix", "prompt_tuning"])
def test_training_lowers_the_loss_and_leaves_the_base_as_it_was(base: PreTrainedModel, variant: str) -> None:
    before = {k: v.clone() for k, v in base.state_dict().items()}
    module = PrefixTuningModule(
        base,
        build_adapter(
            variant, base, PrefixConfig(num_virtual_tokens=4, projection_input_size=8, encoder_hidden_size=12), WORDS
        ),
        TrainingConfig(),
        1,
    )
    assert not [n for n, _ in module.named_parameters() if not n.startswith("model.")]
    batches = list(padded_loader(EXAMPLES, 100, shuffle=False))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        loss, tokens = module.loss(batches[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / tokens)
    assert tokens == sum(len(t) for _, t in EXAMPLES)
    assert losses[-1] < losses[0] - 0.01  # a random base leaves little to gain
    assert all(p.grad is None for p in base.parameters())
    assert all(torch.equal(v, before[k]) for k, v in base.state_dict().items())
    learned = {id(p) for group in module.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert learned == {id(p) for p in module.adapter.parameters()}


def test_a_checkpoint_holds_mlp_and_prefix_and_nothing_of_the_base(base: PreTrainedModel) -> None:
    settings = PrefixConfig(num_virtual_tokens=4, projection_input_size=8, encoder_hidden_size=12)
    module = PrefixTuningModule(base, build_adapter("prefix", base, settings, WORDS), TrainingConfig(), 1)
    table, layers = "model.", ("0.weight", "0.bias", "2.weight", "2.bias")
    held = {name for name in module.state_dict() if name.startswith(table)}
    assert held == {"model.seed", *(f"model.mlp.{name}" for name in layers)}
    assert not [n for n in module.state_dict() if not n.startswith((table, "validation_loss"))]
    again = PrefixTuningModule(base, build_adapter("prefix", base, settings, None), TrainingConfig(), 1)
    again.load_state_dict(module.state_dict())
    assert torch.equal(again.adapter.prompt_embeddings(), module.adapter.prompt_embeddings())


def test_words_need_as_many_hidden_units_as_positions(base: PreTrainedModel) -> None:
    with pytest.raises(InputError, match="2 hidden units cannot give 4 virtual tokens their first values"):
        build_adapter(
            "prefix", base, PrefixConfig(num_virtual_tokens=4, projection_input_size=8, encoder_hidden_size=2), WORDS
        )


def test_a_base_with_other_scores_is_refused(base: PreTrainedModel) -> None:
    check_output_layer(base)
    config = CohereConfig(
        vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4, logit_scale=0.1
    )
    with pytest.raises(InputError, match="cohere: its scores are more than a linear layer"):
        check_output_layer(AutoModelForCausalLM.from_config(config).eval())


def test_the_length_leaves_room_for_text(base: PreTrainedModel) -> None:
    positions = base.config.max_position_embeddings
    assert max_text_length(base, 4) == positions - 4
    with pytest.raises(InputError, match=f"leave no room for text in the base's context of {positions:,}"):
        max_text_length(base, positions - 1)
    with pytest.raises(InputError, match=f"{positions + 1} virtual tokens leave no room"):
        build_adapter(
            "prefix", base, PrefixConfig(num_virtual_tokens=positions + 1), [5]
        )  # the base has no positions to read them at


@pytest.mark.parametrize("variant", ["prefix", "prompt_tuning"])
@pytest.mark.parametrize("beams", [1, 3])
def test_an_infix_is_written_after_as_it_was_trained(base: PreTrainedModel, variant: str, beams: int) -> None:
    settings = PrefixConfig(num_virtual_tokens=4, prefix_projection=False, position="infix")
    adapter = build_adapter(variant, base, settings, WORDS)
    prompts = [[7, 8], [9, 10, 11], [12, 13, 14, 15]]
    together = transformers_generate(base, adapter, prompts, [2], 6, num_beams=beams)
    assert together == [transformers_generate(base, adapter, [p], [2], 6, num_beams=beams)[0] for p in prompts]
    if beams > 1:
        return
    for prompt, written in zip(prompts, together, strict=True):
        if not written:
            continue
        batch = batch_examples([(prompt, [written])], adapter.layout())
        states = adapter.row_states(base, batch)[batch.predicting]
        assert base.get_output_embeddings()(states).argmax(-1).tolist() == written


def test_the_loss_is_that_of_the_target_alone(base: PreTrainedModel) -> None:
    adapter = build_adapter("prefix", base, PrefixConfig(num_virtual_tokens=4, prefix_projection=False), WORDS)
    module = PrefixTuningModule(base, adapter, TrainingConfig(), 1)
    total = 0.0
    for prompt, target in EXAMPLES:
        text = torch.tensor([prompt + target])
        log_p = torch.log_softmax(base.get_output_embeddings()(adapter.states(base, text)), -1)[0]
        total -= sum(log_p[len(prompt) - 1 + i, token].item() for i, token in enumerate(target))
    (batch,) = padded_loader(EXAMPLES, 100, shuffle=False)
    assert module.loss(batch)[0].item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("variant", ["prefix", "prompt_tuning", "none"])
@pytest.mark.parametrize("beams", [1, 3])
def test_generation_is_that_of_each_row_alone(base: PreTrainedModel, variant: str, beams: int) -> None:
    adapter = build_adapter(variant, base, PrefixConfig(num_virtual_tokens=4, prefix_projection=False), WORDS)
    prompts = [p for p, _ in EXAMPLES]
    together = transformers_generate(base, adapter, prompts, [2], 6, num_beams=beams)
    assert together == [transformers_generate(base, adapter, [p], [2], 6, num_beams=beams)[0] for p in prompts]
    if variant != "none":  # the words themselves as prompt give the same
        assert together == transformers_generate(
            base, NoPrefix(), [WORDS + p for p in prompts], [2], 6, num_beams=beams
        )


def test_greedy_generation_is_the_argmax_at_each_step(base: PreTrainedModel) -> None:
    adapter = build_adapter("prefix", base, PrefixConfig(num_virtual_tokens=4, prefix_projection=False), WORDS)
    text = [7, 8]
    for _ in range(5):
        states = adapter.states(base, torch.tensor([text]))
        text.append(int(base.get_output_embeddings()(states[0, -1]).argmax()))
    expected = text[2:]
    expected = expected[: expected.index(2)] if 2 in expected else expected
    assert transformers_generate(base, adapter, [[7, 8]], [2], 5) == [expected]


def test_a_saved_prefix_refuses_another_base(base: PreTrainedModel, tmp_path: Path) -> None:
    from model_io.prefix import load_prefix, save_prefix

    base.save_pretrained(tmp_path / "base")
    adapter = build_adapter(
        "prefix", base, PrefixConfig(num_virtual_tokens=4, projection_input_size=8, encoder_hidden_size=12), WORDS
    )
    (tmp_path / "prefix").mkdir()
    save_prefix(tmp_path / "prefix", "prefix", adapter, tmp_path / "base", "say {source}")
    loaded = load_prefix(tmp_path / "prefix", base, tmp_path / "base")
    assert torch.equal(loaded.adapter.prompt_embeddings(), adapter.prompt_embeddings())
    assert loaded.template == "say {source}"
    for position in ("prefix_", "infix_"):
        words_adapter = build_adapter(
            "prompt_tuning",
            base,
            PrefixConfig.model_validate({"num_virtual_tokens": 4, "position": position.rstrip("_")}),
            WORDS,
        )
        (tmp_path / position).mkdir()
        save_prefix(tmp_path / position, "prompt_tuning", words_adapter, tmp_path / "base", "{source}")
        assert load_prefix(tmp_path / position, base, tmp_path / "base").adapter.infix == (position == "infix_")
    with torch.no_grad():
        base.get_input_embeddings().weight[0, 0] += 1
    base.save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match=r"this prefix was trained on .*base .*, but .*other has"):
        load_prefix(tmp_path / "prefix", base, tmp_path / "other")
    (tmp_path / "prefix" / "prefix.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"prefix\.safetensors: truncated or altered"):
        load_prefix(tmp_path / "prefix", base, tmp_path / "base")
