"""The reward model trained on whole rankings (Ouyang et al. 2022, InstructGPT, 3.5).

All comparisons of a ranking are one batch element, and its prompt is read once for all its responses (`packing.py`).
Options beside the paper's method, all off unless named: `ties: soft`, `margin`, `center_rewards_coefficient`, `loss: plackett_luce`, and
`mode: shuffled_pairs`, which is what the paper warns of.

Differences from the paper: the body is whatever language model is given.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from transformers import PreTrainedModel

from data.batching import ResumableLoader
from data.comparisons.encoding import EncodedRanking
from lightning_modules.prefix_tuning.prefix import Adapter, NoPrefix, Prefix
from lightning_modules.reward_model.loss import PAPERS_LOSS, LossConfig, ranking_loss
from lightning_modules.shared_prompt.reading import states
from lightning_modules.shared_prompt.row import SharedPromptRow, shared_prompt_row
from lightning_modules.training.config import TrainingConfig
from lightning_modules.training.optimization import clip, optimization
from metrics.rankings import accuracy, compare, log_loss


@dataclass(frozen=True)
class RankingBatch:
    """G rankings of at most K responses. R is the number of responses in all of them."""

    row: SharedPromptRow  # prompts and their responses
    place: Tensor  # (R,) where a response stands in the flattened (G, K)
    ranks: Tensor  # (G, K), 0 where there is no response or it is not ranked
    weight: Tensor  # (G,)

    def to(self, device: torch.device) -> "RankingBatch":
        return RankingBatch(self.row.to(device), self.place.to(device), self.ranks.to(device), self.weight.to(device))


def batch_rankings(rankings: Sequence[EncodedRanking]) -> RankingBatch:
    """Packs every prompt once and every response once after it; `ranks` and `place` say which belong together."""
    most = max(len(g.responses) for g in rankings)
    ranks = torch.zeros(len(rankings), most, dtype=torch.long)
    for i, ranking in enumerate(rankings):
        ranks[i, : len(ranking.ranks)] = torch.tensor(ranking.ranks)
    place = torch.cat([i * most + torch.arange(len(g.responses)) for i, g in enumerate(rankings)])
    weight = torch.tensor([g.weight for g in rankings])
    return RankingBatch(shared_prompt_row([(g.prompt, g.responses) for g in rankings]), place, ranks, weight)


class RankingLoader(ResumableLoader):
    """Updates of `batch_size` random rankings, each cut into batches of at most `budget` tokens.

    Inside an update rankings are sorted by size, so that what attention pads is little. The last update of an epoch may be smaller.
    """

    def __init__(
        self, rankings: Sequence[EncodedRanking], batch_size: int, budget: int, *, shuffle: bool = True, seed: int = 0
    ) -> None:
        super().__init__(self._update, shuffle, seed)
        self.rankings, self.size, self.budget = rankings, batch_size, budget

    def __len__(self) -> int:
        return -(-len(self.rankings) // self.size)

    def batches(self, epoch: int) -> list[np.ndarray]:
        count = len(self.rankings)
        order = np.random.default_rng([self.seed, epoch]).permutation(count) if self.shuffle else np.arange(count)
        return [order[start : start + self.size] for start in range(0, count, self.size)]

    def _update(self, chosen: np.ndarray) -> list[RankingBatch]:
        return [batch_rankings(part) for part in micro_batches([self.rankings[i] for i in chosen], self.budget)]


def micro_batches(rankings: Sequence[EncodedRanking], budget: int) -> Iterator[list[EncodedRanking]]:
    """The rankings by size, cut where one more would bring a part above `budget` tokens."""
    part: list[EncodedRanking] = []
    tokens = 0
    for ranking in sorted(rankings, key=len):
        if part and tokens + len(ranking) > budget:
            yield part
            part, tokens = [], 0
        part.append(ranking)
        tokens += len(ranking)
    if part:
        yield part


def split_into_pairs(rankings: Sequence[EncodedRanking]) -> list[EncodedRanking]:
    """Every strict comparison as a ranking of its own: the data points that the paper advises against (3.5)."""
    return [
        EncodedRanking(g.prompt, [better, worse], [i, j], g.weight)
        for g in rankings
        for better, i in zip(g.responses, g.ranks, strict=True)
        for worse, j in zip(g.responses, g.ranks, strict=True)
        if 0 < i < j
    ]


class RewardModelModule(pl.LightningModule):
    """A language model's body and a scalar head, trained on whole rankings.

    An update takes the mean over its rankings; it is forwarded in parts that fit the budget of tokens, and their gradients add up.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: TrainingConfig,
        updates_per_epoch: int,
        loss: LossConfig = PAPERS_LOSS,
        adapter: Adapter | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold what learns, see `on_save_checkpoint`
        self.model = model
        self.adapter = adapter or NoPrefix()
        self.settings, self.updates_per_epoch, self.loss_settings = settings, updates_per_epoch, loss
        self.collected: list[tuple[np.ndarray, np.ndarray]] = []

    def train(self, mode: bool = True) -> "RewardModelModule":
        """Training mode; what a prefix adapts stays in evaluation mode, without its dropout: it is frozen."""
        super().train(mode)
        if not isinstance(self.adapter, NoPrefix):
            self.model.eval()
        return self

    def rewards(self, batch: RankingBatch) -> Tensor:
        """(G, K) rewards, each response forwarded once; zero where there is no response."""
        found = response_rewards(self.model, batch.row, self.adapter)
        return found.new_zeros(batch.ranks.numel()).index_put((batch.place,), found).view_as(batch.ranks)

    def training_step(self, update: list[RankingBatch], batch_idx: int) -> dict[str, Any]:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        rankings = sum(len(batch.ranks) for batch in update)
        total = torch.zeros((), device=self.device)
        for batch in update:
            losses = ranking_loss(self.rewards(batch), batch.ranks, self.loss_settings)
            loss = (batch.weight * losses).sum() / rankings
            self.manual_backward(loss)
            total += loss.detach()
        clip(self.parameters(), self.settings)
        optimizer.step()
        scheduler: Any = self.lr_schedulers()
        scheduler.step()
        return {"loss": total, "train_loss": total, "tokens": sum(batch.row.tokens.numel() for batch in update)}

    def validation_step(self, update: list[RankingBatch], batch_idx: int) -> None:
        for batch in update:
            self.collected.append((self.rewards(batch).cpu().numpy(), batch.ranks.cpu().numpy()))

    def on_validation_epoch_end(self) -> None:
        differences = np.concatenate([compare(r, ranks).difference for r, ranks in self.collected])
        self.collected = []
        self.log_dict({"validation_accuracy": accuracy(differences), "validation_loss": log_loss(differences)})

    def configure_optimizers(self) -> Any:
        return optimization(self.parameters(), self.settings, self.updates_per_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves out what is frozen: it comes from the body again."""
        for name, p in self.named_parameters():
            if not p.requires_grad:
                checkpoint["state_dict"].pop(name, None)


def response_rewards(model: PreTrainedModel, row: SharedPromptRow, adapter: Adapter | None = None) -> Tensor:
    """(R,) the scalar head's value at the last token of each response, in float32.

    `model` is a sequence classification model with one label, prepared for packing: the scalar head takes the place of the
    unembedding.
    """
    prefixes = adapter.prefixes() if isinstance(adapter, Prefix) else None
    last = states(model, row, prefixes)[row.ends()].float()
    with torch.autocast(last.device.type, enabled=False):  # half precision would round differences of rewards away
        scores: Tensor = model.get_submodule("score")(last)
    return scores.squeeze(1)


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    rankings: Sequence[tuple[list[int], list[list[int]]]],
    budget: int,
    adapter: Adapter | None = None,
) -> list[np.ndarray]:
    """Rewards (K,) of the responses of each (prompt, responses), in order, a budget of tokens at a time."""
    cases = [EncodedRanking(prompt, responses, []) for prompt, responses in rankings]
    found: list[np.ndarray] = [np.zeros(0)] * len(cases)
    order = {id(case): i for i, case in enumerate(cases)}
    for part in micro_batches(cases, budget):
        row = shared_prompt_row([(case.prompt, case.responses) for case in part]).to(model.device)
        values = response_rewards(model, row, adapter).cpu().numpy()
        ends = np.cumsum([len(case.responses) for case in part])
        for case, own in zip(part, np.split(values, ends[:-1]), strict=True):
            found[order[id(case)]] = own
    return found
