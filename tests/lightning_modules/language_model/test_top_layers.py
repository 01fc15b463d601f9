"""Only the uppermost layers are trained, with or without what follows them."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, GPT2Config, LlamaConfig, PreTrainedConfig, PreTrainedModel

from core.errors import InputError
from lightning_modules.language_model.top_layers import train_only_top_layers

CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(
        vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, pad_token_id=0, num_labels=1,
    ),
    "gpt2": GPT2Config(
        vocab_size=20, n_embd=16, n_layer=3, n_head=2, bos_token_id=1, eos_token_id=2, pad_token_id=0, num_labels=1,
    ),
}  # fmt: skip
LAYERS = {"llama": ("model.layers.1.", "model.layers.2."), "gpt2": ("transformer.h.1.", "transformer.h.2.")}
AFTER = {
    "llama": {"model.norm.weight", "score.weight"},
    "gpt2": {"transformer.ln_f.weight", "transformer.ln_f.bias", "score.weight"},
}


def model_of(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("output", [True, False])
def test_only_the_top_layers_are_trained(name: str, output: bool) -> None:
    model = model_of(name)
    train_only_top_layers(model, 2, output=output)
    expected = {parameter for parameter, _ in model.named_parameters() if parameter.startswith(LAYERS[name])}
    assert len(expected) >= 18
    expected |= AFTER[name] if output else set()
    assert {parameter for parameter, p in model.named_parameters() if p.requires_grad} == expected


def test_more_layers_than_there_are_is_an_error() -> None:
    with pytest.raises(InputError, match="num_top_layers: 4, but the model has 3 layers"):
        train_only_top_layers(model_of("llama"), 4, output=True)
