"""How a prefix or one of its ablations (`prefix.py`) is trained: the loss is that of the target, the base is frozen."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from core.processes import Process
from data.batching import SINGLE, TokenBudgetLoader, padded
from lightning_modules.language_model.module import next_token_loss
from lightning_modules.prefix_tuning.prefix import Adapter
from lightning_modules.shared_prompt.examples import ExampleBatch
from lightning_modules.training.config import TrainingConfig
from lightning_modules.training.likelihood import MaximumLikelihoodModule
from lightning_modules.training.output_loss import projected_cross_entropy


class PrefixTuningModule(MaximumLikelihoodModule):
    """Cross entropy of the target only. The base is frozen and stays outside the module, so checkpoints hold the prefix alone."""

    def __init__(self, base: PreTrainedModel, adapter: Adapter, config: TrainingConfig, steps_per_epoch: int) -> None:
        super().__init__(adapter, config, steps_per_epoch, base.config.get_text_config().hidden_size)
        self.base = (base.requires_grad_(False).eval(),)

    @property
    def adapter(self) -> Adapter:
        return cast(Adapter, self.model)

    def on_fit_start(self) -> None:
        self.base[0].to(self.device)

    def loss(self, batch: ExampleBatch | dict[str, Tensor]) -> tuple[Tensor, int]:
        """Summed cross entropy of the target tokens, and their number."""
        return target_loss(self.base[0], self.adapter, batch)


def target_loss(base: PreTrainedModel, adapter: Adapter, batch: ExampleBatch | dict[str, Tensor]) -> tuple[Tensor, int]:
    """Summed cross entropy of the target tokens, in nats, and their number.

    `batch` is one of `shared_prompt_loader`, or one of `padded_loader` for bases that cannot share prompts.
    """
    layer = base.get_output_embeddings()
    if isinstance(batch, ExampleBatch):
        features = adapter.row_states(base, batch).index_select(0, batch.predicting)
        bias = getattr(layer, "bias", None)
        return projected_cross_entropy(features, layer.weight, bias, batch.targets), len(features)
    return next_token_loss(adapter.states(base, batch["text"]), layer, batch["text"], batch["counted"])


def padded_loader(
    examples: Sequence[tuple[list[int], list[int]]],
    batch_tokens: int,
    *,
    shuffle: bool = True,
    seed: int = 0,
    process: Process = SINGLE,
) -> TokenBudgetLoader:
    """Batches of (prompt, target) token ids: `text` (B, T) and `counted` (B, T), True on target tokens."""

    def collate(indices: np.ndarray) -> dict[str, Tensor]:
        chosen = [examples[i] for i in indices]
        text = padded([prompt + target for prompt, target in chosen])
        position = torch.arange(text.shape[1])
        start = torch.tensor([[len(prompt)] for prompt, _ in chosen])
        end = torch.tensor([[len(prompt) + len(target)] for prompt, target in chosen])
        return {"text": text, "counted": (position >= start) & (position < end)}

    return TokenBudgetLoader(
        np.array([len(p) + len(t) for p, t in examples]),
        collate,
        batch_tokens,
        shuffle=shuffle,
        seed=seed,
        process=process,
    )
