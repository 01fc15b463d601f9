"""The loss of whole rankings (Ouyang et al. 2022, InstructGPT, eq. 1) and its options."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.reward_model.config import LossConfig

PAPERS_LOSS = LossConfig()


def comparisons(ranks: Tensor) -> Tensor:
    """(B, K, K) True at [b, w, l] where response w of ranking b ranks better than l."""
    ranked = ranks > 0
    return (ranks[:, :, None] < ranks[:, None, :]) & ranked[:, :, None] & ranked[:, None, :]


def ranking_loss(reward: Tensor, ranks: Tensor, config: LossConfig = PAPERS_LOSS) -> Tensor:
    """(B,) loss of each ranking; the default: -1 / C(K,2) * sum of log sigmoid(r(x, y_w) - r(x, y_l)) over its comparisons.

    Args:
        reward: (B, K), any value where there is no response.
        ranks: (B, K), 1 is best; equal ranks are ties and have no term; 0 where there is no response or it is not ranked.
    """
    if config.loss_type == "plackett_luce":
        return plackett_luce_loss(reward, ranks)
    strict = comparisons(ranks)
    difference = reward[:, :, None] - reward[:, None, :]
    distance = (ranks[:, None, :] - ranks[:, :, None]).to(reward.dtype)
    terms = -F.logsigmoid(difference - config.margin * distance).masked_fill(~strict, 0)
    if config.ties == "soft":  # both orders of a tied pair are in the sum, each with its half
        ranked = ranks > 0
        tied = (distance == 0) & ranked[:, :, None] & ranked[:, None, :]
        tied &= ~torch.eye(ranks.shape[1], dtype=torch.bool, device=ranks.device)
        terms = terms + (-0.5 * F.logsigmoid(difference)).masked_fill(~tied, 0)
    if config.center_rewards_coefficient:
        sums = (reward[:, :, None] + reward[:, None, :]).masked_fill(~strict, 0)
        terms = terms + config.center_rewards_coefficient * sums**2
    k = (ranks > 0).sum(1)
    return terms.sum((1, 2)) / (k * (k - 1) / 2)


def plackett_luce_loss(reward: Tensor, ranks: Tensor) -> Tensor:
    """(B,) -log of the ranking's probability under Plackett-Luce (Luce 1959, Plackett 1975), divided by its number of choices.

    Each response is chosen among itself and all that rank below it. So ties have no term, as in the paper's loss. With K = 2 it is the
    pairwise loss.
    """
    below = comparisons(ranks)
    itself = torch.eye(ranks.shape[1], dtype=torch.bool, device=ranks.device)
    log_sum = reward[:, None, :].masked_fill(~(below | itself), -torch.inf).logsumexp(2)  # (B, K) over the candidates
    chosen = below.any(2)
    return (log_sum - reward).masked_fill(~chosen, 0).sum(1) / chosen.sum(1).clamp(min=1)
