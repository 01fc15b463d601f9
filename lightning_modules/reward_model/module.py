"""The reward model trained on whole rankings (Ouyang et al. 2022, InstructGPT, 3.5).

All comparisons of a ranking are one batch element, and its prompt is read once for all its responses (`shared_prompt/`).
Options beside the paper's method are off unless named: `ties: soft`, `margin`, `center_rewards_coefficient`, `loss_type: plackett_luce`, and
`mode: shuffled_pairs`, which the paper warns of.

Difference from the paper: the backbone is any language model.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from transformers import PreTrainedModel

from data.batching import ResumableLoader
from data.comparisons.encoding import EncodedRanking
from lightning_modules.prefix_tuning.prefix import Adapter, NoPrefix, Prefix
from lightning_modules.reward_model.config import LossConfig
from lightning_modules.reward_model.loss import PAPERS_LOSS, ranking_loss
from lightning_modules.shared_prompt.reading import shared_prompt_states
from lightning_modules.shared_prompt.row import SharedPromptRow, shared_prompt_row
from lightning_modules.training.config import TrainingConfig
from lightning_modules.training.optimization import clip, optimization
from metrics.rankings import accuracy, compare, log_loss


@dataclass(frozen=True)
class RankingBatch:
    """B rankings of at most K responses; R responses in all."""

    row: SharedPromptRow  # prompts and their responses
    place: Tensor  # (R,) index of a response in the flattened (B, K)
    ranks: Tensor  # (B, K), 0 where there is no response or it is not ranked
    weight: Tensor  # (B,)

    def to(self, device: torch.device) -> "RankingBatch":
        return RankingBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


def batch_rankings(rankings: Sequence[EncodedRanking]) -> RankingBatch:
    """Every prompt once and every response once in one row; `ranks` and `place` say which belong together."""
    width = max(len(r.responses) for r in rankings)
    ranks = torch.zeros(len(rankings), width, dtype=torch.long)
    for i, ranking in enumerate(rankings):
        ranks[i, : len(ranking.ranks)] = torch.tensor(ranking.ranks)
    place = torch.cat([i * width + torch.arange(len(r.responses)) for i, r in enumerate(rankings)])
    weight = torch.tensor([r.weight for r in rankings])
    return RankingBatch(shared_prompt_row([(r.prompt, r.responses) for r in rankings]), place, ranks, weight)


class RankingLoader(ResumableLoader):
    """Batches of `batch_size` random rankings, one for each update. Each is cut into micro-batches of at most `micro_batch_tokens`.

    Inside a batch rankings are sorted by size, so attention pads little. The last batch of an epoch may be smaller.
    """

    def __init__(
        self,
        rankings: Sequence[EncodedRanking],
        batch_size: int,
        micro_batch_tokens: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(self._micro_batches, shuffle, seed)
        self.rankings, self.batch_size, self.micro_batch_tokens = rankings, batch_size, micro_batch_tokens

    def __len__(self) -> int:
        return -(-len(self.rankings) // self.batch_size)

    def batches(self, epoch: int) -> list[np.ndarray]:
        count = len(self.rankings)
        order = np.random.default_rng([self.seed, epoch]).permutation(count) if self.shuffle else np.arange(count)
        return [order[start : start + self.batch_size] for start in range(0, count, self.batch_size)]

    def _micro_batches(self, chosen: np.ndarray) -> list[RankingBatch]:
        rankings = [self.rankings[i] for i in chosen]
        return [batch_rankings(part) for part in micro_batches(rankings, self.micro_batch_tokens)]


def micro_batches(rankings: Sequence[EncodedRanking], micro_batch_tokens: int) -> Iterator[list[EncodedRanking]]:
    """The rankings by size, cut where one more would bring a part above `micro_batch_tokens`."""
    part: list[EncodedRanking] = []
    tokens = 0
    for ranking in sorted(rankings, key=len):
        if part and tokens + len(ranking) > micro_batch_tokens:
            yield part
            part, tokens = [], 0
        part.append(ranking)
        tokens += len(ranking)
    if part:
        yield part


def split_into_pairs(rankings: Sequence[EncodedRanking]) -> list[EncodedRanking]:
    """Every strict comparison as a ranking of two: the data points that the paper advises against (3.5)."""
    return [
        EncodedRanking(r.prompt, [better, worse], [i, j], r.weight)
        for r in rankings
        for better, i in zip(r.responses, r.ranks, strict=True)
        for worse, j in zip(r.responses, r.ranks, strict=True)
        if 0 < i < j
    ]


class RewardModelModule(pl.LightningModule):
    """A language model's backbone and a scalar head, trained on whole rankings.

    An update takes the mean over its rankings. They are forwarded in micro-batches, whose gradients add up.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: TrainingConfig,
        updates_per_epoch: int,
        loss: LossConfig = PAPERS_LOSS,
        adapter: Adapter | None = None,
    ) -> None:
        """`model` is a sequence classification model with one label."""
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold what is trained, see `on_save_checkpoint`
        self.model = model
        self.adapter = adapter or NoPrefix()
        self.config, self.updates_per_epoch, self.loss_config = config, updates_per_epoch, loss
        self.validated: list[tuple[np.ndarray, np.ndarray]] = []  # rewards and ranks

    def train(self, mode: bool = True) -> "RewardModelModule":
        """Training mode. A model under a prefix stays in evaluation mode, without its dropout: it is frozen."""
        super().train(mode)
        if not isinstance(self.adapter, NoPrefix):
            self.model.eval()
        return self

    def rewards(self, batch: RankingBatch) -> Tensor:
        """(B, K) rewards, each response forwarded once; zero where there is no response."""
        values = response_rewards(self.model, batch.row, self.adapter)
        return values.new_zeros(batch.ranks.numel()).index_put((batch.place,), values).view_as(batch.ranks)

    def training_step(self, batches: list[RankingBatch], batch_idx: int) -> dict[str, Any]:
        """One update from its micro-batches."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        rankings = sum(len(batch.ranks) for batch in batches)
        total = torch.zeros((), device=self.device)
        for batch in batches:
            losses = ranking_loss(self.rewards(batch), batch.ranks, self.loss_config)
            loss = (batch.weight * losses).sum() / rankings
            self.manual_backward(loss)
            total += loss.detach()
        clip(self.parameters(), self.config)
        optimizer.step()
        scheduler: Any = self.lr_schedulers()
        scheduler.step()
        return {"loss": total, "train_loss": total, "tokens": sum(batch.row.tokens.numel() for batch in batches)}

    def validation_step(self, batches: list[RankingBatch], batch_idx: int) -> None:
        for batch in batches:
            self.validated.append((self.rewards(batch).cpu().numpy(), batch.ranks.cpu().numpy()))

    def on_validation_epoch_end(self) -> None:
        differences = np.concatenate([compare(rewards, ranks).difference for rewards, ranks in self.validated])
        self.validated = []
        self.log_dict({"validation_accuracy": accuracy(differences), "validation_loss": log_loss(differences)})

    def configure_optimizers(self) -> Any:
        hidden_size = self.model.config.get_text_config().hidden_size
        return optimization(self.parameters(), self.config, self.updates_per_epoch, hidden_size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves out what is frozen: it comes from the backbone's folder again."""
        for name, p in self.named_parameters():
            if not p.requires_grad:
                checkpoint["state_dict"].pop(name, None)


def response_rewards(model: PreTrainedModel, row: SharedPromptRow, adapter: Adapter | None = None) -> Tensor:
    """(R,) the scalar head's value at the last token of each response of a row, in float32.

    `model` is a sequence classification model with one label: its scalar head takes the place of the unembedding.
    """
    prefixes = adapter.prefixes() if isinstance(adapter, Prefix) else None
    last = shared_prompt_states(model, row, prefixes)[row.ends()].float()
    with torch.autocast(last.device.type, enabled=False):  # half precision would round differences of rewards away
        rewards: Tensor = model.get_submodule("score")(last)
    return rewards.squeeze(1)


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    texts: Sequence[tuple[list[int], list[list[int]]]],
    micro_batch_tokens: int,
    adapter: Adapter | None = None,
    on_progress: Callable[[int], object] = lambda count: None,
) -> list[np.ndarray]:
    """Rewards (K,) of the responses of each (prompt, responses) of token ids, in order, a micro-batch at a time.

    `on_progress` is called with the number of texts scored so far.
    """
    rankings = [EncodedRanking(prompt, responses, []) for prompt, responses in texts]
    scores: list[np.ndarray] = [np.zeros(0)] * len(rankings)
    index = {id(ranking): i for i, ranking in enumerate(rankings)}
    scored = 0
    for part in micro_batches(rankings, micro_batch_tokens):
        row = shared_prompt_row([(ranking.prompt, ranking.responses) for ranking in part]).to(model.device)
        rewards = response_rewards(model, row, adapter).cpu().numpy()
        ends = np.cumsum([len(ranking.responses) for ranking in part])
        for ranking, values in zip(part, np.split(rewards, ends[:-1]), strict=True):
            scores[index[id(ranking)]] = values
        scored += len(part)
        on_progress(scored)
    return scores
