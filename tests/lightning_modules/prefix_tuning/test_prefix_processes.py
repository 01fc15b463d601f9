"""Two processes learn what one learns from their batches together."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from core.processes import Process
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.module import PrefixTuningModule
from lightning_modules.prefix_tuning.prefix import build_adapter
from lightning_modules.shared_prompt.examples import shared_prompt_loader
from lightning_modules.training.config import TrainingConfig

SETTINGS = TrainingConfig(optimizer="sgd", learning_rate=0.5, lr_scheduler_type="constant", max_grad_norm=None)


def module_and_loader(rank: int = 0, world_size: int = 1) -> tuple[PrefixTuningModule, object]:
    """A tiny task, the same in every process."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2,
    )  # fmt: skip
    base = AutoModelForCausalLM.from_config(config)
    adapter = build_adapter(
        "prefix", base, PrefixConfig(num_virtual_tokens=3, projection_input_size=8, encoder_hidden_size=8), None
    )
    inputs = [([5 + i, 9], [[10 + i, 11, 2]] * (1 + i % 3)) for i in range(9)]
    loader = shared_prompt_loader(inputs, adapter.layout(), 24, max_length=50, process=Process(rank, world_size))
    return PrefixTuningModule(base, adapter, SETTINGS, len(loader)), loader


def main(out: str) -> None:
    import pytorch_lightning as pl

    rank = int(os.environ["RANK"])
    module, loader = module_and_loader(rank, 2)
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    torch.save(module.adapter.prompt_embeddings().detach(), f"{out}/{rank}.pt")


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(first, second)

    module, _ = module_and_loader()
    batches = [list(module_and_loader(rank, 2)[1]) for rank in (0, 1)]  # type: ignore[call-overload]
    assert len(batches[0]) == len(batches[1]) > 1
    optimizer = torch.optim.SGD(module.adapter.parameters(), lr=0.5)
    for pair in zip(*batches, strict=True):
        losses, counts = zip(*(module.loss(batch) for batch in pair), strict=True)
        optimizer.zero_grad()
        (sum(losses) / sum(counts)).backward()  # type: ignore[union-attr]
        optimizer.step()
    torch.testing.assert_close(first, module.adapter.prompt_embeddings(), rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    main(sys.argv[1])
