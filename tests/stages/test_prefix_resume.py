"""Prefix-tuning, and what it is compared with, continue where they were killed, bit by bit the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils._pytree import tree_flatten
from transformers import AutoModelForCausalLM, GPT2Config

from core.folders import file_hash
from core.stage_run import StageRun
from lightning_modules.prefix_tuning.fine_tuning import FineTuningModule
from lightning_modules.prefix_tuning.gradient_checkpointing import checkpoint_layers
from lightning_modules.prefix_tuning.module import PrefixTuningModule
from lightning_modules.prefix_tuning.prefix import build_adapter
from lightning_modules.shared_prompt.examples import EncodedInput, shared_prompt_loader
from lightning_modules.shared_prompt.reading import shared_prompt_attention
from stages.configs.prefix_tuning import VariantConfig
from stages.framework import layout
from stages.framework.params import load_params
from stages.framework.stage import Stage, read_json
from stages.training import checkpoints
from stages.training.fit import fit

TRAINING = {
    "num_train_epochs": 3, "optimizer": "adamw", "learning_rate": 0.02, "lr_scheduler_type": "linear", "warmup_steps": 2, "batch_tokens": 90,
}  # fmt: skip
MLP = {"projection_input_size": 6, "encoder_hidden_size": 8}
KINDS: dict[str, dict[str, Any]] = {
    "MLP": {"kind": "prefix", **MLP, "prompt_tuning_init_text": "words"},
    "flat": {"kind": "prefix", "prefix_projection": False},
    "embedding-only": {"kind": "prompt_tuning"},
    "infix": {"kind": "prefix", **MLP, "position": "infix", "gradient_checkpointing": True},
    "full fine-tuning": {"kind": "full"},
    "top-2 layers": {"kind": "top_layers", "num_top_layers": 2},
}


@pytest.fixture
def stage(project: Path) -> Stage:
    name = "prefix_tuning@prefix"
    return Stage(name, "prefix", load_params(), project, StageRun(name), "key")


def inputs() -> list[EncodedInput]:
    """Inputs with three targets each, of lengths of their own."""
    random = np.random.default_rng(0)

    def text(shortest: int) -> list[int]:
        tokens: list[int] = random.integers(4, 30, random.integers(shortest, 9)).tolist()
        return tokens

    return [(text(2), [text(1) for _ in range(3)]) for _ in range(24)]


def train(stage: Stage, kind: str, killed_at: int | None = None) -> dict[str, Any]:
    """Trains as the stage does, with dropout on P or inside the base; may break off before an update."""
    of_base = KINDS[kind]["kind"] in ("full", "top_layers")
    dropout = {} if of_base else {"num_virtual_tokens": 3, "dropout": 0.3}
    variant = VariantConfig.model_validate({**KINDS[kind], **dropout, "training": TRAINING})
    pl.seed_everything(5, verbose=False)
    rates: dict[str, Any] = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.2)
    config = GPT2Config(vocab_size=30, n_embd=16, n_layer=3, n_head=2, n_positions=40, **rates)
    base = AutoModelForCausalLM.from_config(config).eval()
    adapter = build_adapter(variant.kind, base, variant, [5, 6] if variant.prompt_tuning_init_text else None)
    if variant.gradient_checkpointing:
        checkpoint_layers(base)
    examples, shape, batch_tokens = inputs(), adapter.layout(), variant.training.batch_tokens
    loader = shared_prompt_loader(examples[:18], shape, batch_tokens, max_length=30, seed=5)
    held_out = shared_prompt_loader(examples[18:], shape, batch_tokens, max_length=30, shuffle=False)
    learning: type[FineTuningModule | PrefixTuningModule] = FineTuningModule if of_base else PrefixTuningModule

    class Killed(learning):  # type: ignore[misc, valid-type]
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if killed_at is not None and self.trainer.global_step == killed_at:
                raise ConnectionAbortedError("killed")

    if of_base:
        module = Killed(
            base, variant.training, len(loader), variant.num_top_layers if variant.kind == "top_layers" else None
        )
    else:
        module = Killed(base, adapter, variant.training, len(loader))
    stage.when_done = []
    with shared_prompt_attention(base):
        learned = fit(stage, module, loader, held_out, variant.training)
    return {
        "P": adapter.prompt_embeddings().detach().clone(),
        "weights": {name: p.detach().clone() for name, p in module.named_parameters()},
        "optimizer": [optimizer.state_dict() for optimizer in module.trainer.optimizers],
        "curve": read_json(stage.out / layout.CURVE),
        "batches": len(loader),
        **{name: learned[name] for name in ("updates", "tokens", "validation_loss")},
    }


def assert_same(result: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal to the last bit."""
    (values, form), (others, other_form) = tree_flatten(result), tree_flatten(expected)
    assert form == other_form
    for value, other in zip(values, others, strict=True):
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other


def with_another_random_state(checkpoint: Path) -> None:
    saved = torch.load(checkpoint, weights_only=True)
    saved["callbacks"]["Checkpoints"]["processes"][0]["cpu"] = torch.Generator().manual_seed(1).get_state()
    torch.save(saved, checkpoint)
    checkpoint.with_suffix(".hash").write_text(json.dumps({checkpoint.name: file_hash(checkpoint)}))


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_training_ends_the_same(stage: Stage, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)

    def killed(before: int) -> Path:
        """The checkpoint that a training left which broke off before this update."""
        stage.when_done[0]()
        with pytest.raises(ConnectionAbortedError):
            train(stage, kind, before)
        return max(Path(".gradus/checkpoints").glob("*/*.ckpt"))

    expected = train(stage, kind)
    batches = expected["batches"]
    assert expected["updates"] == 3 * batches >= 9
    assert expected["optimizer"][0]["state"][0]["exp_avg"].any()
    middle = batches + batches // 2
    assert killed(middle).stem == f"step-{middle:09d}"
    assert_same(train(stage, kind), expected)
    # A validation follows an epoch's last update, so no checkpoint does: the update is done again.
    assert killed(2 * batches).stem == f"step-{2 * batches - 1:09d}"
    assert_same(train(stage, kind), expected)
    # Dropout was on: with another random state the same checkpoint leads elsewhere.
    with_another_random_state(killed(middle))
    weights = train(stage, kind)["weights"]
    assert not all(torch.equal(weights[name], weight) for name, weight in expected["weights"].items())
