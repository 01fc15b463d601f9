"""The reward model's losses against loops over comparisons, and its updates against separate rows."""

import itertools
import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig, PreTrainedModel

from data.comparisons.encoding import EncodedRanking
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.prefix import Adapter, build_adapter
from lightning_modules.reward_model.loss import LossConfig, comparisons, ranking_loss
from lightning_modules.reward_model.module import (
    RankingLoader,
    RewardModelModule,
    batch_rankings,
    micro_batches,
    response_rewards,
    score,
    split_into_pairs,
)
from lightning_modules.training.config import TrainingConfig

RANKINGS = [
    EncodedRanking([5, 6], [[7], [8, 9], [10], [11, 12]], [1, 2, 2, 4]),
    EncodedRanking([6], [[7, 8], [9]], [2, 1], weight=3.0),
    EncodedRanking([7, 8, 9], [[10], [11], [12]], [1, 1, 1]),
    EncodedRanking([9, 9], [[10], [11], [12]], [2, 0, 1]),
]


@pytest.fixture
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        num_labels=1,
    )
    return AutoModelForSequenceClassification.from_config(config).eval()


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


REWARD = [[0.3, -1.2, 0.8, 0.1], [2.0, -0.5, 0.0, 0.0]]
RANKS = [[1, 2, 2, 4], [2, 1, 0, 0]]


@pytest.mark.parametrize("margin", [0.0, 0.7])
@pytest.mark.parametrize("ties", ["dropped", "soft"])
@pytest.mark.parametrize("center_rewards_coefficient", [0.0, 0.1])
def test_the_pairwise_loss_is_the_sum_written_out(margin: float, ties: str, center_rewards_coefficient: float) -> None:
    config = LossConfig(margin=margin, ties=ties, center_rewards_coefficient=center_rewards_coefficient)
    losses = ranking_loss(torch.tensor(REWARD), torch.tensor(RANKS), config)
    for reward, ranks, value in zip(REWARD, RANKS, losses.tolist(), strict=True):
        k = sum(r > 0 for r in ranks)
        total = 0.0
        for i, j in itertools.permutations(range(k), 2):
            if ranks[i] < ranks[j]:
                total -= log_sigmoid(reward[i] - reward[j] - margin * (ranks[j] - ranks[i]))
                total += center_rewards_coefficient * (reward[i] + reward[j]) ** 2
            elif ranks[i] == ranks[j] and ties == "soft":
                total -= 0.5 * log_sigmoid(reward[i] - reward[j])
        assert value == pytest.approx(total / math.comb(k, 2), rel=1e-5)


def test_the_default_is_the_papers_loss() -> None:
    assert LossConfig() == LossConfig(loss_type="pairwise", ties="dropped", margin=0, center_rewards_coefficient=0)


def test_plackett_luce_is_the_probability_of_the_choices() -> None:
    reward, config = torch.tensor([REWARD[0]]), LossConfig(loss_type="plackett_luce")
    weights = [math.exp(v) for v in REWARD[0]]

    def choice(chosen: int, among: list[int]) -> float:
        return math.log(weights[chosen] / sum(weights[i] for i in among))

    in_order = choice(0, [0, 1, 2, 3]) + choice(1, [1, 2, 3]) + choice(2, [2, 3])
    assert ranking_loss(reward, torch.tensor([[1, 2, 3, 4]]), config).item() == pytest.approx(-in_order / 3, rel=1e-5)
    tied = choice(0, [0, 1, 2, 3]) + choice(1, [1, 3]) + choice(2, [2, 3])
    assert ranking_loss(reward, torch.tensor([[1, 2, 2, 4]]), config).item() == pytest.approx(-tied / 3, rel=1e-5)
    two = torch.tensor([[0.4, 1.0]]), torch.tensor([[1, 2]])
    torch.testing.assert_close(ranking_loss(*two, config), ranking_loss(*two))


@pytest.mark.parametrize("loss", ["pairwise", "plackett_luce"])
def test_ties_and_what_is_not_ranked_have_no_term(loss: str) -> None:
    ranks = torch.tensor([[1, 2, 2, 4], [1, 1, 1, 0], [2, 0, 1, 0]])
    assert comparisons(ranks).sum((1, 2)).tolist() == [5, 0, 1]
    reward = torch.randn(3, 4, requires_grad=True)
    losses = ranking_loss(reward, ranks, LossConfig(loss_type=loss))
    assert losses[1].item() == 0
    losses.sum().backward()
    assert (reward.grad[1] == 0).all()
    assert (reward.grad[2] != 0).tolist() == [True, False, True, False]


def separate_rows_loss(model: PreTrainedModel, rankings: list[EncodedRanking]) -> torch.Tensor:
    """The update's loss with every response read in a row of its own, one comparison after the other."""
    total = torch.zeros(())
    for ranking in rankings:
        reward = [model(torch.tensor([ranking.prompt + r])).logits[0, 0] for r in ranking.responses]
        k = sum(r > 0 for r in ranking.ranks)
        for w, worse in itertools.permutations(range(len(reward)), 2):
            if 0 < ranking.ranks[w] < ranking.ranks[worse]:
                term = -torch.nn.functional.logsigmoid(reward[w] - reward[worse])
                total = total + ranking.weight * term / math.comb(k, 2) / len(rankings)
    return total


@pytest.mark.parametrize("budget", [1, 16, 1000])
def test_an_update_is_that_of_separate_rows_however_it_is_cut(model: PreTrainedModel, budget: int) -> None:
    expected = separate_rows_loss(model, RANKINGS)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    module = RewardModelModule(model, TrainingConfig(max_grad_norm=None), 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0)
    module.optimizers = lambda: optimizer  # type: ignore[method-assign,assignment]
    module.lr_schedulers = lambda: torch.optim.lr_scheduler.ConstantLR(optimizer)  # type: ignore[method-assign,assignment]
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
    (update,) = RankingLoader(RANKINGS, 64, budget)
    assert len(update) == {1: 4, 16: 2, 1000: 1}[budget]
    step = module.training_step(update, 0)
    assert step["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert step["tokens"] == sum(map(len, RANKINGS))
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-4, atol=1e-6)


def test_a_reward_is_the_same_alone_in_any_batch_and_in_plain_transformers(model: PreTrainedModel) -> None:
    texts = [g.prompt + r for g in RANKINGS for r in g.responses]
    width = max(map(len, texts)) + 3
    ids = torch.tensor([t + [0] * (width - len(t)) for t in texts])
    theirs = model(ids, attention_mask=(ids != 0).long()).logits.squeeze(1)
    module = RewardModelModule(model, TrainingConfig(), 1)
    batch = batch_rankings(RANKINGS)
    together = response_rewards(model, batch.row)
    torch.testing.assert_close(together, theirs, rtol=1e-5, atol=1e-6)
    grouped = module.rewards(batch)
    assert grouped[1, 2:].tolist() == [0, 0]
    cases = [(g.prompt, g.responses) for g in RANKINGS]
    for budget in (1, 12, 1000):
        torch.testing.assert_close(
            torch.from_numpy(np.concatenate(score(model, cases, budget))), together, rtol=1e-5, atol=1e-6
        )
    alone = [score(model, [(p, [r])], 1)[0][0] for p, responses in cases for r in responses]
    torch.testing.assert_close(torch.tensor(alone), together, rtol=1e-5, atol=1e-6)


def test_shuffled_pairs_hold_each_strict_comparison_once() -> None:
    pairs = split_into_pairs(RANKINGS)
    assert len(pairs) == 5 + 1 + 0 + 1
    assert pairs[0] == EncodedRanking([5, 6], [[7], [8, 9]], [1, 2])
    assert pairs[5] == EncodedRanking([6], [[9], [7, 8]], [1, 2], weight=3.0)
    assert pairs[6] == EncodedRanking([9, 9], [[12], [10]], [1, 2])


def test_an_epoch_has_every_ranking_once_and_continues_where_it_stopped() -> None:
    rankings = [EncodedRanking([5], [[i % 15 + 5], [6]], [1, 2]) for i in range(23)]
    loader = RankingLoader(rankings, 5, 12, seed=3)
    epochs = [list(loader), list(loader)]
    assert len(loader) == len(epochs[0]) == 5
    sizes = [sum(len(batch.ranks) for batch in update) for update in epochs[0]]
    assert sizes == [5, 5, 5, 5, 3]
    assert all(batch.row.tokens.numel() <= 12 for update in epochs[0] for batch in update)

    def tokens(updates: list) -> list:
        return [batch.row.tokens.tolist() for update in updates for batch in update]

    assert tokens(epochs[0]) != tokens(epochs[1])
    first = RankingLoader(rankings, 5, 12, seed=3)
    iterator = iter(first)
    seen = [next(iterator), next(iterator)]
    second = RankingLoader(rankings, 5, 12, seed=3)
    second.load_state_dict(first.state_dict())
    assert tokens(seen) + tokens(list(second)) == tokens(epochs[0])


def test_micro_batches_stay_within_the_budget_but_a_ranking_is_never_cut() -> None:
    parts = list(micro_batches(RANKINGS, 9))
    assert [[len(g) for g in part] for part in parts] == [[4, 5], [6], [8]]
    assert [len(part) for part in micro_batches(RANKINGS, 1)] == [1, 1, 1, 1]


def test_what_a_prefix_adapts_is_read_without_its_dropout(model: PreTrainedModel) -> None:
    def two_readings(adapter: Adapter | None) -> list[torch.Tensor]:
        for layer in model.base_model.layers:
            layer.self_attn.attention_dropout = 0.5
        module = RewardModelModule(model, TrainingConfig(), 1, adapter=adapter).train()
        return [module.rewards(batch_rankings(RANKINGS)) for _ in range(2)]

    learned, again = two_readings(None)
    assert not torch.equal(learned, again)
    learned, again = two_readings(
        build_adapter("prefix", model, PrefixConfig(num_virtual_tokens=2, prefix_projection=False), None)
    )
    torch.testing.assert_close(learned, again, rtol=0, atol=0)


def test_it_learns_a_ranking(model: PreTrainedModel) -> None:
    module = RewardModelModule(model.train(), TrainingConfig(), 1)
    batch = batch_rankings(RANKINGS[:2])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        ranking_loss(module.rewards(batch), batch.ranks).mean().backward()
        optimizer.step()
    reward = module.rewards(batch)
    assert all(reward[g, w] > reward[g, worse] for g, w, worse in comparisons(batch.ranks).nonzero().tolist())
