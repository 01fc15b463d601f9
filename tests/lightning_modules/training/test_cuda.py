"""What a GPU computes against what the CPU does, for every model; skipped where there is none."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from lightning_modules.decoding.translation import DecodingConfig, beam_search
from lightning_modules.generation.generate import GenerateConfig, generate
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.module import target_loss
from lightning_modules.prefix_tuning.prefix import build_adapter
from lightning_modules.shared_prompt.examples import batch_examples
from lightning_modules.translators.base import Translator
from lightning_modules.translators.module import cross_entropy
from tests.lightning_modules.shared_prompt.test_examples import ADAPTERS, CONFIGS, END, inputs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in single precision: by default cuDNN's recurrences round their factors."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("half", [False, True])
def test_a_translator_learns_the_same(translator: Translator, batch: dict[str, Tensor], half: bool) -> None:
    expected, _ = cross_entropy(translator, batch)
    expected.backward()
    on_gpu = copy.deepcopy(translator).cuda()
    on_gpu.zero_grad()
    for part in on_gpu.modules():
        if isinstance(part, nn.RNNBase):  # cuDNN gives gradients only in training, which here has no dropout
            part.training, part.dropout = True, 0.0
    with torch.autocast("cuda", torch.bfloat16, enabled=half):
        loss, _ = cross_entropy(on_gpu, {side: ids.cuda() for side, ids in batch.items()})
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=0.02 if half else 1e-5)
    others = gradients(on_gpu)
    for name, gradient in gradients(translator).items():
        if half:
            assert others[name].isfinite().all(), name
        else:
            torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-4)


def test_a_translator_writes_the_same(translator: Translator, batch: dict[str, Tensor]) -> None:
    config = DecodingConfig(beam_size=3, extra_tokens=3)
    expected = beam_search(translator, batch["source"], config)
    on_gpu = beam_search(translator.cuda(), batch["source"].cuda(), config)
    for one, other in zip(expected, on_gpu, strict=True):
        assert other[0].tokens == one[0].tokens
        assert other[0].score == pytest.approx(one[0].score, abs=1e-4)


@pytest.fixture(params=CONFIGS)
def base(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[request.param])).eval().requires_grad_(False)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_learns_and_writes_the_same(base: PreTrainedModel, name: str, half: bool) -> None:
    kind, options = ADAPTERS[name]
    adapter = build_adapter(kind, base, PrefixConfig(num_virtual_tokens=3, **options), [5, 6, 7]).eval()
    examples, prompts = batch_examples(inputs(), adapter.layout()), [list(prompt) for prompt, _ in inputs()]
    config = GenerateConfig(beam_size=3, max_new_tokens=6)
    expected, _ = target_loss(base, adapter, examples)
    expected.backward()
    continuations = generate(base, adapter, prompts, [END], config, batch=4)
    on_gpu = copy.deepcopy(adapter).cuda()
    on_gpu.zero_grad()
    with torch.autocast("cuda", torch.bfloat16, enabled=half):
        loss, _ = target_loss(base.cuda(), on_gpu, examples.to(torch.device("cuda")))
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=0.03 if half else 1e-5)
    others = gradients(on_gpu)
    for parameter, gradient in gradients(adapter).items():
        likeness = nn.functional.cosine_similarity(others[parameter].flatten(), gradient.flatten(), dim=0)
        assert likeness > (0.95 if half else 0.9999), parameter
    if not half:
        assert generate(base, on_gpu, prompts, [END], config, batch=4) == continuations
