"""The reward model trained on whole rankings (Ouyang et al. 2022, InstructGPT, 3.5).

Differences from the paper: the body is whatever language model is given, and an update has a budget of pieces, not 64 prompts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from data.batching import TokenBudgetLoader, causal_text, padded
from data.settings import Settings
from data.tokenizer import PAD
from lightning_modules.optimization import OptimizationSettings, optimization


class RewardModelSettings(Settings):
    """How a reward model is trained; the paper's values: one epoch, learning rate 9e-6, cosine to 10 %."""

    training: OptimizationSettings = OptimizationSettings(
        optimizer="adamw", learning_rate=9e-6, schedule="cosine", epochs=1, betas=(0.9, 0.95), clip_norm=1.0
    )


@dataclass(frozen=True)
class Group:
    """One ranking as piece ids: the batch element."""

    prompt: list[int]
    responses: list[list[int]]
    ranks: list[int]  # 1 is best


@dataclass(frozen=True)
class GroupBatch:
    """G groups of at most K responses. R is the number of responses in all of them."""

    texts: Tensor  # (R, T) piece ids, padded on the right
    place: Tensor  # (R,) where a response stands in the flattened (G, K)
    ranks: Tensor  # (G, K), 0 where there is no response

    def to(self, device: torch.device) -> "GroupBatch":
        return GroupBatch(self.texts.to(device), self.place.to(device), self.ranks.to(device))


def group_loader(groups: Sequence[Group], budget: int, *, shuffle: bool = True, seed: int = 0) -> TokenBudgetLoader:
    """Batches of whole groups; `budget` counts padded pieces."""
    longest = np.array([max(len(r) for r in g.responses) + len(g.prompt) + 3 for g in groups])
    responses = np.array([len(g.responses) for g in groups])
    return TokenBudgetLoader(
        longest,
        lambda chosen: batch_groups([groups[i] for i in chosen]),
        budget,
        rows=responses,
        shuffle=shuffle,
        seed=seed,
    )


def batch_groups(groups: Sequence[Group]) -> GroupBatch:
    """Every response once, after its prompt; `ranks` and `place` say which belong together."""
    most = max(len(g.responses) for g in groups)
    ranks = torch.zeros(len(groups), most, dtype=torch.long)
    for i, group in enumerate(groups):
        ranks[i, : len(group.ranks)] = torch.tensor(group.ranks)
    texts = padded([causal_text(g.prompt, r) for g in groups for r in g.responses])
    return GroupBatch(texts, (ranks > 0).flatten().nonzero().squeeze(1), ranks)


def rewards(model: PreTrainedModel, texts: Tensor) -> Tensor:
    """(R,) the scalar head's value at the last piece of each text (R, T), padded on the right.

    `model` is a sequence classification model with one label: the scalar head takes the place of the unembedding.
    """
    last = (texts != PAD).sum(1) - 1
    states = model.base_model(texts, use_cache=False).last_hidden_state
    head: nn.Module = model.get_submodule("score")
    scores: Tensor = head(states[torch.arange(len(texts), device=texts.device), last])
    return scores.squeeze(1).float()


def ranking_loss(reward: Tensor, ranks: Tensor) -> Tensor:
    """(G,) loss of each group: -1 / C(K,2) * sum of log sigmoid(r(x, y_w) - r(x, y_l)) over its comparisons; ties have no term.

    Args:
        reward: (G, K), anything where there is no response.
        ranks: (G, K), 1 is best, 0 where there is no response.
    """
    difference = reward[:, :, None] - reward[:, None, :]
    terms = -F.logsigmoid(difference).masked_fill(~comparisons(ranks), 0)
    k = (ranks > 0).sum(1)
    return terms.sum((1, 2)) / (k * (k - 1) / 2)


def comparisons(ranks: Tensor) -> Tensor:
    """(G, K, K) True at [g, w, l] where response w of group g ranks better than l."""
    there = ranks > 0
    return (ranks[:, :, None] < ranks[:, None, :]) & there[:, :, None] & there[:, None, :]


class RewardModel(pl.LightningModule):
    """All comparisons of a prompt are one batch element; the loss of a batch is the mean over its groups."""

    def __init__(self, model: PreTrainedModel, settings: OptimizationSettings, steps_per_epoch: int) -> None:
        super().__init__()
        self.model, self.settings, self.steps_per_epoch = model, settings, steps_per_epoch
        self.collected: list[tuple[Tensor, Tensor]] = []

    def group_rewards(self, batch: GroupBatch) -> Tensor:
        """(G, K) rewards, each response forwarded once; zero where there is no response."""
        flat = torch.zeros(batch.ranks.numel(), device=batch.texts.device)
        return flat.index_put((batch.place,), rewards(self.model, batch.texts)).view_as(batch.ranks)

    def training_step(self, batch: GroupBatch, batch_idx: int) -> dict[str, Any]:
        loss = ranking_loss(self.group_rewards(batch), batch.ranks).mean()
        return {"loss": loss, "tokens": int((batch.texts != PAD).sum())}

    def validation_step(self, batch: GroupBatch, batch_idx: int) -> None:
        self.collected.append((self.group_rewards(batch), batch.ranks))

    def on_validation_epoch_end(self) -> None:
        metrics = pairwise_metrics(self.collected)
        self.collected = []
        self.log_dict({"validation_accuracy": metrics["accuracy"], "validation_loss": metrics["log_loss"]})

    def configure_optimizers(self) -> Any:
        return optimization(self.model.parameters(), self.settings, self.steps_per_epoch)


def pairwise_metrics(scored: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Over all comparisons that are not tied of batches of (scores (G, K), ranks (G, K)): accuracy and log loss.

    Equal scores are half right. The log loss of a scorer that knows nothing is log 2.
    """
    right = loss = 0.0
    count = 0
    for score, ranks in scored:
        strict = comparisons(ranks)
        difference = (score[:, :, None] - score[:, None, :])[strict]
        right += ((difference > 0).float() + 0.5 * (difference == 0).float()).sum().item()
        loss += F.softplus(-difference).sum().item()
        count += len(difference)
    return {"accuracy": right / max(1, count), "log_loss": loss / count if count else math.log(2), "comparisons": count}
