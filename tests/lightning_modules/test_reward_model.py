"""The reward model's loss against a double loop over comparisons."""

import itertools
import math

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig, PreTrainedModel

from lightning_modules.optimization import OptimizationSettings
from lightning_modules.reward_model import (
    Group,
    RewardModel,
    batch_groups,
    comparisons,
    group_loader,
    pairwise_metrics,
    ranking_loss,
    rewards,
)

GROUPS = [
    Group([5, 6], [[7], [8, 9], [10], [11, 12]], [1, 2, 2, 4]),
    Group([6], [[7, 8], [9]], [2, 1]),
    Group([7, 8, 9], [[10], [11], [12]], [1, 1, 1]),
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


def test_the_loss_is_the_papers_written_out() -> None:
    torch.manual_seed(0)
    reward, ranks = torch.randn(2, 4), torch.tensor([[1, 2, 2, 4], [2, 1, 0, 0]])
    for g, k in ((0, 4), (1, 2)):
        total = 0.0
        for i, j in itertools.permutations(range(k), 2):
            if ranks[g, i] < ranks[g, j]:
                total += math.log(1 / (1 + math.exp(-(reward[g, i] - reward[g, j]))))
        assert ranking_loss(reward, ranks)[g].item() == pytest.approx(-total / math.comb(k, 2), rel=1e-5)


def test_ties_and_absent_responses_have_no_term() -> None:
    ranks = torch.tensor([[1, 2, 2, 4], [1, 1, 1, 0]])
    assert comparisons(ranks).sum((1, 2)).tolist() == [5, 0]
    reward = torch.randn(2, 4, requires_grad=True)
    loss = ranking_loss(reward, ranks)
    assert loss[1].item() == 0
    loss.sum().backward()
    assert (reward.grad[1] == 0).all()


def test_each_response_is_forwarded_once(model: PreTrainedModel) -> None:
    batch = batch_groups(GROUPS)
    assert len(batch.texts) == 9
    assert batch.ranks.tolist() == [[1, 2, 2, 4], [2, 1, 0, 0], [1, 1, 1, 0]]
    seen = []
    model.base_model.embed_tokens.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    found = RewardModel(model, OptimizationSettings(), 1).group_rewards(batch)
    assert seen == [9]
    assert found[1, 2:].tolist() == [0, 0]


def test_a_reward_does_not_depend_on_its_batch(model: PreTrainedModel) -> None:
    batch = batch_groups(GROUPS)
    together = rewards(model, batch.texts)
    for text, value in zip(batch.texts, together, strict=True):
        torch.testing.assert_close(rewards(model, text[text != 0][None])[0], value, rtol=1e-5, atol=1e-6)


def test_plain_transformers_gives_the_same_scores(model: PreTrainedModel) -> None:
    texts = batch_groups(GROUPS).texts
    theirs = model(texts, attention_mask=(texts != 0).long()).logits.squeeze(1)
    torch.testing.assert_close(rewards(model, texts), theirs, rtol=1e-5, atol=1e-5)


def test_it_learns_a_ranking(model: PreTrainedModel) -> None:
    module = RewardModel(model.train(), OptimizationSettings(), 1)
    batch = batch_groups(GROUPS[:2])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        module.training_step(batch, 0)["loss"].backward()
        optimizer.step()
    assert pairwise_metrics([(module.group_rewards(batch).detach(), batch.ranks)])["accuracy"] == 1


def test_metrics_by_hand() -> None:
    found = pairwise_metrics(
        [
            (torch.tensor([[2.0, 1.0, 1.0]]), torch.tensor([[1, 2, 3]])),
            (torch.tensor([[0.0, 5.0]]), torch.tensor([[1, 2]])),
        ]
    )
    assert found["comparisons"] == 4
    assert found["accuracy"] == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert found["log_loss"] == pytest.approx(
        (2 * math.log1p(math.exp(-1)) + math.log(2) + math.log1p(math.exp(5))) / 4
    )
    assert pairwise_metrics([])["log_loss"] == pytest.approx(math.log(2))


def test_batches_hold_whole_groups() -> None:
    batches = list(group_loader(GROUPS, 40))
    assert sum(len(b.ranks) for b in batches) == 3
    assert all(b.texts.numel() <= 40 for b in batches)
