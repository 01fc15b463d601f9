"""Trials side by side, each until its criteria are met."""

import pytest
import torch

from data.long_lag import ADDITIONAL, RECENT, Sequences, Task, side_by_side, task
from data.long_lag.reber import string_sets
from lightning_modules.lstm_1997.trials import Trials

EASY = {"T": 10, "learning_rate": 1.0}  # task 3a with a short lag


def run(chosen: Task, count: int, rounds: int, seed: int = 1) -> Trials:
    trials = Trials(chosen, count, seed)
    for _ in range(rounds):
        trials.advance()
    return trials


@pytest.mark.parametrize("name", ["1", "2a", "3a"])
def test_a_trial_is_the_same_with_and_without_others(name: str) -> None:
    chosen = task(name, {"1": {"round": 20}, "2a": {"p": 4}, "3a": EASY}[name])
    alone, together = run(chosen, 1, 12), run(chosen, 5, 12)
    assert torch.equal(alone.nets.hidden[0], together.nets.hidden[0])
    torch.testing.assert_close(alone.error[0], together.error[0])
    assert torch.equal(alone.met[0], together.met[0])
    assert len({tuple(row) for row in together.error.tolist()}) == 5  # no trial is another's copy


def test_trials_continue_from_their_state() -> None:
    chosen = task("2a", {"p": 4})
    whole, begun = run(chosen, 2, 60), run(chosen, 2, 35)
    resumed = Trials(chosen, 2, seed=1)
    resumed.load_state_dict(begun.state_dict())
    for _ in range(25):
        resumed.advance()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_an_easy_task_is_solved_and_a_solved_trial_learns_no_more() -> None:
    trials = Trials(task("3a", EASY), 2, seed=1)
    while len(trials.live) == 2 and trials.seen < 10_000:
        trials.advance()
    solved = [i for i in range(2) if i not in trials.live.tolist()]
    weights = trials.nets.hidden[solved].clone()
    while len(trials.live) and trials.seen < 10_000:
        trials.advance()
    assert torch.equal(trials.nets.hidden[solved], weights)
    for result in trials.results():
        assert 0 < result["ST1"] <= result["ST2"] < 10_000
        assert result["mean_error"] < 0.012
        assert result["wrong"] <= 0.01 * ADDITIONAL


def test_changed_settings_reach_network_and_criteria() -> None:
    settings = {"network": {"blocks": 1, "input_gate_bias": [-2], "output_gate_bias": [], "initial": 0.5}}
    trials = run(task("3a", EASY | settings | {"criteria": {"ST1": {"most_wrong": 256}}}), 2, rounds=1)
    start = Trials(trials.task, 2, seed=1).nets.hidden
    assert start.shape == (2, 1 + 3 + 1, 3)  # input, a cell and its gates, bias
    assert start[:, -1, 1].tolist() == [-2, -2]
    assert 0.1 < start[:, :-1].abs().max() <= 0.5
    assert trials.met.tolist() == [[100, 0]] * 2  # ST1 asks nothing more


def test_training_criteria_need_as_many_sequences_as_they_speak_of() -> None:
    trials = Trials(task("4", {"T": 22}), 1)
    (criterion,) = trials.task.criteria
    one = torch.tensor([0])
    trials.turn.fill_(RECENT // trials.task.round - 1)
    assert not trials._meets(criterion, one)
    trials.turn += 1
    assert trials._meets(criterion, one)
    trials.error.fill_(0.011)
    assert not trials._meets(criterion, one)
    trials.error.fill_(0.009)
    trials.wrong[0, 7] = True
    assert not trials._meets(criterion, one)
    assert trials._meets(task("4", {"criteria": {"success": {"most_wrong": 1}}}).criteria[0], one)
    trials.turn += (
        1  # the ring is written from its beginning again: 0 .. 99 are the last ones, before them 1900 .. 1999
    )
    (last,) = task("4", {"criteria": {"success": {"sequences": 150, "mean_error": 0.02}}}).criteria
    trials.wrong[0, 7], trials.wrong[0, 1949], trials.error[0, 100:1950] = False, True, 1
    assert trials._meets(last, one)
    trials.wrong[0, 1950] = True
    assert not trials._meets(last, one)


@pytest.mark.parametrize("strings", [1, 100, 200, 256, 300])
def test_every_test_string_of_task_1_is_read_once(strings: int) -> None:
    trials = Trials(task("1", {"strings": strings}), 2)
    read: list[Sequences] = []

    def noted(seed: int, trial: int, part: int, count: int) -> Sequences:
        read.append(trials.task.test(seed, trial, part, count))
        return read[-1]

    trials.measure(torch.tensor([1]), noted, trials.task.criteria[0].sequences)
    assert sum(len(part.lengths) for part in read) == 2 * strings
    whole, expected = (side_by_side(parts, "cat") for parts in (read, list(string_sets(0, 1, strings))))
    assert torch.equal(whole.lengths, expected.lengths)
    assert torch.equal(whole.inputs, expected.inputs)


def test_late_blocks_come_when_the_error_has_stopped_decreasing() -> None:
    trials = Trials(task("2a", {"p": 4}), 2)
    one = torch.tensor([0, 1])
    for step in range(30):
        trials._add_blocks(one, torch.tensor([1.0 / (step + 1), max(1.0 / (step + 1), 0.1)]))
    assert trials.nets.present.tolist() == [0, 1]


def test_the_variant_with_forget_gate_runs_the_same_trials() -> None:
    trials = Trials(task("3a", EASY), 2, seed=1, variant="forget_gate")
    errors = []
    for _ in range(8):
        trials.advance()
        errors.append(trials.error[:, trials._last_round()].mean().item())
    assert errors[-1] < 0.5 * errors[0]
