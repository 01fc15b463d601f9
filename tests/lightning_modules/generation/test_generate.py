"""Writing with shared prompt keys: the same as transformers' own search, row by row, whatever the batch."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedModel

from core.errors import InputError
from lightning_modules.generation.generate import GenerateConfig, generate
from lightning_modules.generation.shared_cache import SharedCache
from lightning_modules.generation.transformers_generate import transformers_generate
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.prefix import Adapter, NoPrefix, build_adapter
from lightning_modules.shared_prompt.reading import shared_prompt_attention

END = 2
LONGEST = 9


@pytest.fixture(params=["grouped-query Llama", "multi-head GPT-2"])
def base(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(3)
    if request.param == "multi-head GPT-2":
        config = GPT2Config(
            vocab_size=30, n_embd=16, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=END
        )
    else:
        config = LlamaConfig(
            vocab_size=30,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for weights in model.parameters():  # a fresh model is all but uniform: sharpen it, so that searches differ
        if weights.dim() > 1:
            weights.mul_(12)
    return model


@pytest.fixture
def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, 30, (n,), generator=generator).tolist() for n in (1, 7, 3, 3, 12, 5, 2, 9, 4, 4, 6, 1)]


def adapter_of(base: PreTrainedModel, kind: str) -> Adapter:
    torch.manual_seed(5)
    config = PrefixConfig(
        num_virtual_tokens=4, prefix_projection=False, position="infix" if kind.startswith("infix") else "prefix"
    )
    return build_adapter(kind.removeprefix("infix "), base, config, [3, 4, 5, 6]).requires_grad_(False).eval()


@pytest.mark.parametrize("kind", ["none", "prefix", "infix prefix", "prompt_tuning", "infix prompt_tuning"])
@pytest.mark.parametrize(("beam", "penalty"), [(1, 1.0), (2, 1.0), (5, 0.0), (5, 0.9), (5, -1.0), (4, 2.0)])
def test_it_writes_what_transformers_writes(
    base: PreTrainedModel, prompts: list[list[int]], kind: str, beam: int, penalty: float
) -> None:
    adapter = adapter_of(base, kind)
    options = {"num_beams": beam, "length_penalty": penalty} if beam > 1 else {}
    expected = transformers_generate(base, adapter, prompts, [END], LONGEST, **options)
    assert penalty > 1 or len({len(e) for e in expected}) > 1  # some end early, some not
    config = GenerateConfig(beam_size=beam, length_penalty=penalty, max_new_tokens=LONGEST)
    assert generate(base, adapter, prompts, [END], config) == expected


@pytest.mark.parametrize("config", [
    GenerateConfig(max_new_tokens=LONGEST), GenerateConfig(beam_size=3, max_new_tokens=LONGEST),
    GenerateConfig(method="sample", top_p=0.9, temperature=1.5, max_new_tokens=LONGEST),
])  # fmt: skip
def test_a_row_does_not_depend_on_its_batch(
    base: PreTrainedModel, prompts: list[list[int]], config: GenerateConfig
) -> None:
    adapter = adapter_of(base, "prefix")
    together = generate(base, adapter, prompts, [END], config)
    for batch in (1, 3):
        assert generate(base, adapter, prompts, [END], config, batch=batch) == together
    assert [generate(base, adapter, [p], [END], config, rows=[i])[0] for i, p in enumerate(prompts)] == together


def test_samples_follow_the_distribution_and_the_seed(base: PreTrainedModel) -> None:
    prompt = [5, 6, 7]
    p = base(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    config = GenerateConfig(method="sample", max_new_tokens=1)
    drawn = generate(base, NoPrefix(), [prompt] * 3000, [10**6], config, batch=3000)
    counts = torch.bincount(torch.tensor(drawn).flatten(), minlength=30) / 3000
    assert (counts - p).abs().max() < 4 * (p * (1 - p) / 3000).sqrt().max()
    assert drawn == generate(base, NoPrefix(), [prompt] * 3000, [10**6], config, batch=64)
    other = config.model_copy(update={"seed": 1})
    assert drawn != generate(base, NoPrefix(), [prompt] * 3000, [10**6], other, batch=3000)


def test_top_p_leaves_out_the_improbable(base: PreTrainedModel) -> None:
    prompt = [5, 6, 7]
    p, order = base(torch.tensor([prompt])).logits[0, -1].softmax(-1).sort(descending=True)
    allowed = {int(token) for i, token in enumerate(order) if p[:i].sum() < 0.5}
    config = GenerateConfig(method="sample", max_new_tokens=1, top_p=0.5)
    assert {row[0] for row in generate(base, NoPrefix(), [prompt] * 500, [10**6], config, batch=500)} == allowed


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"method": "sample"}])
@pytest.mark.parametrize("damage", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_an_error(
    base: PreTrainedModel, prompts: list[list[int]], options: dict[str, object], damage: float
) -> None:
    base.get_output_embeddings().weight[7] = damage  # of one token only
    with pytest.raises(InputError, match="scores that are not finite: its weights are damaged"):
        generate(base, NoPrefix(), prompts, [END], GenerateConfig(max_new_tokens=LONGEST, **options))


def test_a_prompt_is_kept_once_for_all_its_beams(base: PreTrainedModel, prompts: list[list[int]]) -> None:
    cache = SharedCache(base, adapter_of(base, "prefix"), prompts, beam_size=5, max_new_tokens=LONGEST)
    assert cache.block.shape[2] == len(prompts)
    assert cache.block.shape[4] == 4 + max(map(len, prompts)) + 5 * LONGEST


def test_the_base_has_its_own_attention_afterwards(base: PreTrainedModel, prompts: list[list[int]]) -> None:
    text = torch.tensor([prompts[4]])
    before = base(text).logits
    config = GenerateConfig(beam_size=2, max_new_tokens=3)
    written = generate(base, NoPrefix(), prompts, [END], config)
    with shared_prompt_attention(base):  # in the middle of training
        assert generate(base, NoPrefix(), prompts, [END], config) == written
    torch.testing.assert_close(base(text).logits, before)


def test_the_last_penalties_of_the_range_leave_a_best_hypothesis(
    base: PreTrainedModel, prompts: list[list[int]]
) -> None:
    for penalty in (-5.0, 5.0):
        config = GenerateConfig(beam_size=3, length_penalty=penalty, max_new_tokens=48)
        assert [len(text) for text in generate(base, NoPrefix(), prompts, [-1], config)] == [48] * len(prompts)
