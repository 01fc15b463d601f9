"""Many independent trials of a long-lag task, side by side, each until its task's criteria are met."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from data.long_lag import ADDITIONAL, RECENT, TEST_PART, Criterion, Sequences, Task, side_by_side
from lightning_modules.lstm_1997.forget_gate_lstm import ForgetGateLSTM
from lightning_modules.lstm_1997.lstm import MemoryBlocks

Variant = Literal["paper", "forget_gate"]
Drawn = Callable[[int, int, int, int], Sequences]  # seed, trial, part, how many
# "The error has stopped decreasing", and late blocks are added, when it has not fallen by the fraction DECREASE in STALLED rounds.
# Without noise it never stops: it falls ever more slowly. The paper gives no numbers. In task 2a these are 80 sequences, and its
# block comes after about 300. After 500 a block would find saturated outputs, which hardly learn any more.
STALLED, DECREASE = 8, 0.25


class Trials(nn.Module):
    """`count` trials with different initial weights and different sequences, the results of each as if it ran alone.

    `advance` trains every unfinished trial for one round. A training continues from the state dictionary alone.
    """

    turn: Tensor  # () rounds done
    met: Tensor  # (n, criteria) training sequences until each criterion was met, 0 before
    wrong: Tensor  # (n, RECENT) which recent training sequences were wrong, a ring
    error: Tensor  # (n, RECENT) their mean absolute errors
    least: Tensor  # (n,) error of the last round that was clearly better than all before
    since: Tensor  # (n,) rounds since then

    def __init__(self, task: Task, count: int, seed: int = 0, variant: Variant = "paper") -> None:
        super().__init__()
        self.task, self.count, self.seed = task, count, seed
        kind = MemoryBlocks if variant == "paper" else ForgetGateLSTM
        self.nets: Any = kind(task.network, count, seed)  # both have take, put, learn and answer
        self.register_buffer("turn", torch.zeros((), dtype=torch.long))
        self.register_buffer("met", torch.zeros(count, len(task.criteria), dtype=torch.long))
        self.register_buffer("wrong", torch.zeros(count, RECENT, dtype=torch.bool))
        self.register_buffer("error", torch.zeros(count, RECENT))
        self.register_buffer("least", torch.full((count,), torch.inf))
        self.register_buffer("since", torch.zeros(count, dtype=torch.long))

    @property
    def seen(self) -> int:
        """Training sequences that an unfinished trial has seen."""
        return int(self.turn) * self.task.round

    @property
    def trained_on(self) -> int:
        """Training sequences of all trials together; a trial is finished with its last criterion."""
        return int(torch.where(self.met[:, -1] > 0, self.met[:, -1], self.seen).sum())

    @property
    def live(self) -> Tensor:
        """Numbers of the trials that have not met their last criterion."""
        return (self.met[:, -1] == 0).nonzero()[:, 0]

    def recent(self, trials: Tensor) -> dict[str, float]:
        """Mean absolute error, and fraction of wrong ones, of the last round's training sequences of these trials."""
        last = self._last_round()
        return {
            "error": float(self.error[trials][:, last].mean()),
            "wrong": float(self.wrong[trials][:, last].float().mean()),
        }

    def advance(self) -> None:
        """One round of training, after which the criteria are checked."""
        live = self.live
        turn = int(self.turn)
        sequences = side_by_side([self.task.training(self.seed, i, turn) for i in live.tolist()])
        part = self.nets.take(live)
        outputs = part.learn(sequences, self.task.learning_rate, self.task.update)
        self.nets.put(live, part)
        self.turn += 1
        wrong, error = self.task.judge(outputs, sequences)
        places = (turn * self.task.round + torch.arange(self.task.round)) % RECENT
        self.wrong[live[:, None], places], self.error[live[:, None], places] = wrong, error
        if self.task.network.late_blocks:
            self._add_blocks(live, error.mean(1))
        for number, criterion in enumerate(self.task.criteria):
            due = live[self.met[live, number] == 0]
            if len(due):
                self.met[due[self._meets(criterion, due)], number] = self.seen

    def _add_blocks(self, live: Tensor, error: Tensor) -> None:
        lower = error < (1 - DECREASE) * self.least[live]
        self.least[live] = torch.where(lower, error, self.least[live])
        self.since[live] = torch.where(lower, 0, self.since[live] + 1)
        if isinstance(self.nets, MemoryBlocks):
            self.nets.present[live[self.since[live] >= STALLED]] = 1

    def _meets(self, criterion: Criterion, trials: Tensor) -> Tensor:
        """(trials,) which of them meet the criterion now."""
        if criterion.on == "test":
            # A large test set is read part by part until one is wrong, and only by trials whose last round was right. Where weights
            # change within a sequence all trials read it: the outputs of the last round are not those of the final weights.
            wrong = self.wrong[trials][:, self._last_round()].sum(1)
            gated = criterion.sequences > 2 * TEST_PART and self.task.update == "sequence"
            hopeful = wrong <= criterion.most_wrong if gated else wrong >= 0
            met = hopeful.clone()
            if hopeful.any():
                met[hopeful] = self._passes(criterion, trials[hopeful])
            return met
        if self.seen < criterion.sequences:
            return torch.zeros(len(trials), dtype=torch.bool)
        recent = self._last(criterion.sequences).sort().values
        met = self.wrong[trials][:, recent].sum(1) <= criterion.most_wrong
        error = self.error[trials][:, recent].mean(1)
        return met if criterion.mean_error is None else met & (error < criterion.mean_error)

    def _last_round(self) -> Tensor:
        return self._last(min(self.task.round, RECENT))

    def _last(self, count: int) -> Tensor:
        """Places of the `count` most recent training sequences, the last one first."""
        return (self.seen - 1 - torch.arange(count)) % RECENT

    def _passes(self, criterion: Criterion, trials: Tensor) -> Tensor:
        wrong, error = self.measure(trials, self.task.test, criterion.sequences, criterion.most_wrong)
        met = wrong <= criterion.most_wrong
        return met if criterion.mean_error is None else met & (error < criterion.mean_error)

    def measure(
        self, trials: Tensor, sequences: Drawn, count: int, most_wrong: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Wrong ones among `count` sequences of each trial, and their mean absolute error, without learning.

        `sequences` is `task.test` or `task.additional`. A trial with more than `most_wrong` wrong ones is read no further.
        """
        wrong, error, read = torch.zeros(3, len(trials))
        open_ = torch.arange(len(trials))  # the trials that are still read
        for part, start in enumerate(range(0, count, TEST_PART)):
            if not len(open_):
                break
            size = min(TEST_PART, count - start)
            drawn = side_by_side([sequences(self.seed, i, part, size) for i in trials[open_].tolist()])
            wrong_of_part, error_of_part = self.task.judge(self.nets.take(trials[open_]).answer(drawn), drawn)
            wrong[open_] += wrong_of_part.sum(1)
            error[open_] += error_of_part.sum(1)
            read[open_] += wrong_of_part.shape[1]
            if most_wrong is not None:
                open_ = open_[wrong[open_] <= most_wrong]
        return wrong, error / read

    def results(self) -> list[dict[str, Any]]:
        """For each trial: sequences until each criterion (None: not met), and wrong ones and mean error of additional test sequences."""
        wrong, error = self.measure(torch.arange(self.count), self.task.additional, ADDITIONAL)
        return [
            {
                "trial": trial,
                **{c.name: int(n) or None for c, n in zip(self.task.criteria, self.met[trial], strict=True)},
                "wrong": int(wrong[trial]),
                "of": ADDITIONAL,
                "mean_error": float(error[trial]),
            }
            for trial in range(self.count)
        ]
