"""The long-lag tasks' sequences, as section 5 of the paper describes them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from core.errors import InputError
from data.long_lag import TASKS, Sequences, side_by_side, task
from data.long_lag.reber import SYMBOLS, string_sets


def drawn(name: str, count: int = 400, **settings: object) -> Sequences:
    return task(name, settings).sequences(np.random.default_rng(3), count)


def ends(values: Tensor, lengths: Tensor) -> Tensor:
    return values[torch.arange(len(values)), lengths - 1]


@pytest.mark.parametrize("name", TASKS)
def test_sequences_depend_on_seed_trial_and_round_alone(name: str) -> None:
    chosen = task(name)
    one, same = chosen.training(1, 2, 3), chosen.training(1, 2, 3)
    others = [chosen.training(*place) for place in ((0, 2, 3), (1, 0, 3), (1, 2, 0))]
    assert torch.equal(one.inputs, same.inputs)
    assert torch.equal(one.targets, same.targets)
    assert len(one.lengths) == chosen.round
    assert all(one.inputs.shape != o.inputs.shape or not torch.equal(one.inputs, o.inputs) for o in others)


@pytest.mark.parametrize("name", TASKS)
def test_nothing_stands_behind_a_sequences_end(name: str) -> None:
    sequences = drawn(name, 50)
    for i, length in enumerate(sequences.lengths):
        assert not sequences.inputs[i, length:].any()
        if sequences.targets.shape[1] > 1:
            assert not sequences.targets[i, length:].any()


@pytest.mark.parametrize("name", TASKS)
def test_a_network_fits_its_task(name: str) -> None:
    chosen, sequences = task(name), drawn(name, 5)
    assert sequences.targets.shape[2] == chosen.network.outputs
    assert sequences.goals.shape == sequences.targets.shape
    size = sequences.inputs.shape[2] if sequences.inputs.ndim == 3 else int(sequences.inputs.max()) + 1
    assert size <= chosen.network.inputs


# Task 1


def is_reber(text: str) -> bool:
    """A recogniser written from figure 3."""
    states = {0}
    graph = {0: {"T": 1, "P": 2}, 1: {"S": 1, "X": 3}, 2: {"T": 2, "V": 4}, 3: {"X": 2, "S": 5}, 4: {"P": 3, "V": 5}}
    if text[0] + text[-1] != "BE":
        return False
    for symbol in text[1:-1]:
        states = {graph[s][symbol] for s in states if symbol in graph.get(s, {})}
    return states == {5}


def test_embedded_reber_strings() -> None:
    sequences = drawn("1")
    lengths = []
    for i, n in enumerate(sequences.lengths):
        text = "".join(
            SYMBOLS[s] for s in [*sequences.inputs[i, :n].tolist(), int(sequences.targets[i, n - 1].argmax())]
        )
        assert (text[0], text[-1]) == ("B", "E")
        assert text[1] == text[-2] in "TP"
        assert is_reber(text[2:-2])
        assert sequences.targets[i, : n - 1].argmax(1).tolist() == sequences.inputs[i, 1:n].tolist()
        legal = [{SYMBOLS[s] for s in step.nonzero().flatten().tolist()} for step in sequences.goals[i, :n]]
        assert legal[0] == {"T", "P"}
        assert legal[2] == {"T", "P"}
        assert legal[-2:] == [{text[1]}, {"E"}]
        assert all(symbol in allowed for symbol, allowed in zip(text[1:], legal, strict=True))
        lengths.append(n + 1)
    assert min(lengths) == 9
    assert 0.4 < np.mean([s[1] == SYMBOLS.index("T") for s in sequences.inputs.tolist()]) < 0.6


def test_test_strings_are_not_among_the_training_strings() -> None:
    train, test = string_sets(0, 0, 256)
    texts = [{tuple(s[:n].tolist()) for s, n in zip(part.inputs, part.lengths, strict=True)} for part in (train, test)]
    assert len(train.lengths) == len(test.lengths) == 256
    assert len(string_sets(0, 0, 4000)[1].lengths) == 4000  # more than one draw has
    assert not texts[0] & texts[1]
    picked = task("1").training(0, 3, 5)
    seen = {tuple(s[:n].tolist()) for s, n in zip(picked.inputs, picked.lengths, strict=True)}
    assert seen <= texts[0]  # trial 3 has the same pair of sets as trial 0


def test_reber_is_right_when_only_legal_symbols_are_most_active() -> None:
    chosen, sequences = task("1"), drawn("1", 3)
    outputs = sequences.goals * 0.3 + 0.1
    outputs[0, 1, 0] = 0.5 if not sequences.goals[0, 1, 0] else 0.0
    outputs[2, sequences.lengths[2] :, 0] = 1.0  # behind the end
    wrong, _ = chosen.judge(outputs, sequences)
    assert wrong.tolist() == [True, False, False]


# Task 2


def test_one_legal_symbol_may_be_enough() -> None:
    sequences = drawn("1", 20)
    outputs = sequences.goals * torch.tensor([0.9, 0.9, 0.2, 0.9, 0.9, 0.9, 0.9]) + 0.5 * (
        1 - sequences.goals
    )  # P is weak
    only = (sequences.goals[..., 2] > 0) & (sequences.goals.sum(-1) == 1)
    both = (sequences.goals[..., 2] > 0) & (sequences.goals.sum(-1) == 2)
    strict, _ = task("1").judge(outputs, sequences)
    lenient, _ = task("1", {"legal": "one"}).judge(outputs, sequences)
    assert torch.equal(strict, (only | both).any(1))
    assert torch.equal(lenient, only.any(1))
    assert strict.sum() > lenient.sum() > 0


def test_two_sequences_differ_in_their_first_and_last_symbols_alone() -> None:
    sequences = drawn("2a", p=6)
    assert {tuple(s) for s in sequences.inputs.tolist()} == {(5, 0, 1, 2, 3, 4), (6, 0, 1, 2, 3, 4)}
    assert sequences.lengths.unique().tolist() == [6]
    predicted = sequences.targets.argmax(2)
    assert torch.equal(predicted[:, :-1], sequences.inputs[:, 1:])
    assert torch.equal(predicted[:, -1], sequences.inputs[:, 0])
    assert len(task("2a", {"p": 6}).test(0, 0, 0, 256).lengths) == 2


def test_a_random_middle_is_judged_at_its_end() -> None:
    chosen, sequences = task("2b", {"p": 6}), drawn("2b", p=6)
    assert sequences.inputs[:, 1:].max() == 4
    assert len(sequences.inputs[:, 1:].unique(dim=0)) > 100
    assert torch.equal(sequences.targets[:, -1].argmax(1), sequences.inputs[:, 0])
    outputs = torch.full_like(sequences.targets, 0.5)
    outputs[:, -1] = sequences.targets[:, -1]
    outputs[0, -1, 0] = 0.26
    assert chosen.judge(outputs, sequences)[0].tolist() == [True] + [False] * 399
    test = chosen.test(0, 0, 0, 10)
    assert torch.equal(test.goals[:, 0].argmax(1), test.inputs[:, 0])


def test_long_distractors() -> None:
    sequences = drawn("2c", 4000, q=20, p=7)
    e, b, x, y = 7, 8, 9, 10
    last = ends(sequences.inputs, sequences.lengths)
    assert last.unique().tolist() == [e]
    assert sequences.inputs[:, 0].unique().tolist() == [b]
    assert sequences.inputs[:, 1].unique().tolist() == [x, y]
    assert torch.equal(sequences.targets[:, 0].argmax(1), sequences.inputs[:, 1] - x)
    assert sequences.lengths.min() == 20 + 3  # with the symbol to predict the minimal length is q + 4
    assert (
        abs(sequences.lengths.float().mean() - (20 + 12)) < 0.6
    )  # the paper's sum is q + 13 with the symbol to predict
    middle = sequences.inputs[0, 2 : sequences.lengths[0] - 1]
    assert middle.max() < 7


# Tasks 3 to 5


@pytest.mark.parametrize(("name", "N"), [("3a", 3), ("3a", 1), ("3b", 3), ("3c", 3)])
def test_two_sequence_problem(name: str, N: int) -> None:
    sequences = drawn(name, 2000, N=N)
    assert (sequences.lengths.min(), sequences.lengths.max()) == (100, 110)
    first = sequences.inputs[:, :N, 0].mean(1) > 0 if name == "3b" else sequences.inputs[:, 0, 0] > 0
    signal = sequences.inputs[:, :N, 0] - torch.where(first, 1.0, -1.0)[:, None]
    assert abs(float(sequences.inputs[:, N:100].var()) - 0.2) < 0.01
    assert abs(float(sequences.inputs[:, N:100].mean())) < 0.01
    if name == "3b":
        assert 0.1 < float(signal.var()) < 0.25
    else:
        assert not signal.any()
    goals, noise = sequences.goals[:, 0, 0], (sequences.targets - sequences.goals)[:, 0, 0]
    if name == "3c":
        assert torch.equal(goals, torch.where(first, 0.2, 0.8))
        assert abs(float(noise.var()) - 0.1) < 0.02
        assert not task("3c").judge(sequences.goals, sequences)[0].any()  # the noise is not judged
    else:
        assert (goals == first).float().mean() > 0.99
        assert not noise.any()
    assert 0.45 < float(first.float().mean()) < 0.55


@pytest.mark.parametrize("name", ["4", "5"])
def test_marked_values_are_added_or_multiplied(name: str) -> None:
    sequences = drawn(name, 2000)
    seen_first = 0
    for (inputs, length), target in zip(
        zip(sequences.inputs, sequences.lengths, strict=True), sequences.targets, strict=True
    ):
        values, markers = inputs[:length].T
        assert 100 <= length <= 110
        assert markers[0] == markers[-1] == -1
        marked = (markers == 1).nonzero().flatten().tolist()
        assert not markers[1:-1][(markers[1:-1] != 0) & (markers[1:-1] != 1)].any()
        assert max(marked) < 50  # minimal lag T/2
        assert min(marked) < 10 or len(marked) == 1
        x = values[marked].tolist()
        if len(marked) == 1:  # the other one is the first pair
            seen_first += 1
            x.append(0.0 if name == "4" else 1.0)
        assert float(target) == pytest.approx(0.5 + sum(x) / 4 if name == "4" else x[0] * x[1], abs=1e-6)
    assert 0.07 < seen_first / 2000 < 0.17
    values = sequences.inputs[..., 0]
    assert (float(values.min()) < -0.9) == (name == "4")
    assert 0.9 < float(values.max()) <= 1


# Task 6


@pytest.mark.parametrize(("name", "places"), [("6a", [(10, 20), (50, 60)]), ("6b", [(10, 20), (33, 43), (66, 76)])])
def test_temporal_order(name: str, places: list[tuple[int, int]]) -> None:
    sequences = drawn(name, 2000)
    classes = {"6a": ["XX", "XY", "YX", "YY"], "6b": ["XXX", "XXY", "XYX", "XYY", "YXX", "YXY", "YYX", "YYY"]}[name]
    positions: list[set[int]] = [set() for _ in places]
    for inputs, length, target in zip(sequences.inputs, sequences.lengths, sequences.targets, strict=True):
        text = "".join("EBabcdXY"[s] for s in inputs[:length].tolist())
        assert (text[0], text[-1]) == ("E", "B")
        where = [i + 1 for i, s in enumerate(text) if s in "XY"]
        assert set(text[1:-1]) <= set("abcdXY")
        assert len(where) == len(places)
        for place, seen in zip(where, positions, strict=True):
            seen.add(place)
        assert target[0].tolist() == [float(c == "".join(text[w - 1] for w in where)) for c in classes]
    assert [(min(f), max(f)) for f in positions] == places
    assert (sequences.lengths.min(), sequences.lengths.max()) == (100, 110)


# Judging, joining, settings


def test_a_sequence_is_right_if_all_outputs_at_its_end_are_near_their_goals() -> None:
    chosen, sequences = task("6a"), drawn("6a", 3)
    outputs = sequences.goals.clone()
    outputs[0] += 0.29
    outputs[1, 0, 2] += 0.31
    wrong, error = chosen.judge(outputs, sequences)
    assert wrong.tolist() == [False, True, False]
    torch.testing.assert_close(error, torch.tensor([0.29, 0.31 / 4, 0.0]))


def test_trials_stand_side_by_side_padded_to_the_longest() -> None:
    trials = [drawn("1", 5), drawn("1", 5)[torch.tensor([0, 0, 0, 0, 0])]]
    short = Sequences(
        trials[1].inputs[:, :12], trials[1].lengths.clamp(max=12), trials[1].targets[:, :12], trials[1].goals[:, :12]
    )
    joined = side_by_side([trials[0], short])
    assert joined.inputs.shape == (2, 5, trials[0].inputs.shape[1])
    assert torch.equal(joined.inputs[0], trials[0].inputs)
    assert torch.equal(joined[1].targets[:, :12], short.targets)
    assert not joined.inputs[1, :, 12:].any()


def test_what_the_paper_reports_stands_beside_the_criteria() -> None:
    assert [c.published for c in task("3a").criteria] == [27_380, 39_850]
    assert [c.published for c in task("3b", {"T": 1000, "N": 1}).criteria] == [481_060, 485_080]
    assert [(c.published, c.most_wrong) for c in task("5").criteria] == [(482_000, 139), (1_273_000, 12)]
    assert task("2c", {"q": 1000, "p": 50}).criteria[0].published == 203_000
    assert task("2c", {"q": 51, "p": 50}).criteria[0].published is None
    assert task("1", {"blocks": 4, "cells": 1, "learning_rate": 0.1}).criteria[0].published == 39_740


def test_wrong_names_and_settings_are_named() -> None:
    with pytest.raises(InputError, match="unknown task '2d'"):
        task("2d")
    with pytest.raises(InputError, match=r"long_lag\.2c: unknown key 'qq'"):
        task("2c", {"qq": 1})


def test_single_values_of_network_and_criteria_can_be_changed() -> None:
    paper = task("3a")
    chosen = task("3a", {"network": {"initial": 0.3, "output_gate_bias": [-1, -1, -1], "h": None}})
    changes = {"initial": 0.3, "output_gate_bias": (-1, -1, -1), "h": None}
    assert chosen.network == paper.network.model_copy(update=changes)
    fewer = {"blocks": 2, "cells": 2, "input_gate_bias": [-1, -3], "output_gate_bias": []}
    assert task("3a", {"network": fewer}).network.output_gate_bias == ()
    first, second = task("3a", {"criteria": {"ST2": {"mean_error": 0.02, "most_wrong": 1}}}).criteria
    unpublished = [c.model_copy(update={"published": None}) for c in paper.criteria]
    assert [first, second] == [unpublished[0], unpublished[1].model_copy(update={"mean_error": 0.02, "most_wrong": 1})]


@pytest.mark.parametrize(
    ("name", "same", "other"),
    [
        ("3a", {"network": {"initial": 0.1}}, {"network": {"initial": 0.2}}),
        ("3a", {"criteria": {"ST1": {"most_wrong": 0}}}, {"criteria": {"ST1": {"most_wrong": 1}}}),
        ("2c", {"learning_rate": 0.01, "round": 7}, {"learning_rate": 0.02}),
        ("4", {"tolerance": 0.04}, {"tolerance": 0.05}),
        ("6a", {"positions": [[10, 20], [50, 60]]}, {"positions": [[10, 20], [30, 60]]}),
        ("6a", {"blocks": 2}, {"blocks": 3}),
        ("1", {"learning_rate": 0.1, "strings": 256}, {"learning_rate": 0.1, "strings": 200}),
        ("1", {"blocks": 4, "cells": 1}, {"blocks": 4}),
    ],
)  # fmt: skip
def test_a_published_number_stands_only_beside_what_it_was_published_of(name: str, same: dict, other: dict) -> None:
    assert all(c.published for c in task(name, same).criteria)
    assert not any(c.published for c in task(name, other).criteria)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("3a", {"network": {"inital": 0.2}}, r"long_lag\.3a: unknown key 'network\.inital' - did you mean 'initial'"),
        ("3a", {"network": {"inputs": 2}}, r"unknown key 'network\.inputs'"),
        ("3a", {"netwrk": {}}, r"unknown key 'netwrk' - did you mean 'network'"),
        ("3a", {"network": {"blocks": 2}}, r"long_lag\.3a\.network: input_gate_bias has 3 values; give one a block \(2\)"),
        ("3a", {"network": {"g": [1, -1]}}, r"long_lag\.3a: network: .*g ranges from 1\.0 to -1\.0"),
        ("3a", {"network": {"late_blocks": True}}, r"late_blocks"),
        ("3a", {"criteria": {"ST3": {}}}, r"long_lag\.3a\.criteria: unknown key 'ST3' - did you mean 'ST"),
        ("3a", {"criteria": {"ST1": {"most_wrongs": 1}}}, r"unknown key 'criteria\.ST1\.most_wrongs' - did you mean 'most_wrong'"),
        ("4", {"criteria": {"success": {"sequences": 2001}}}, r"long_lag\.4\.criteria\.success: sequences: 2001 of training; the most recent 2000"),
        ("1", {"strings": 9, "criteria": {"success": {"sequences": 19}}}, r"sequences: 19 of 18 strings"),
        ("6a", {"published": 3}, r"unknown key 'published'"),
    ],
)  # fmt: skip
def test_wrong_changes_are_named(name: str, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        task(name, settings)


def test_reber_can_be_run_with_the_ranges_of_the_caption() -> None:
    text, caption = task("1").network, task("1", {"squashing": "caption"}).network
    assert (text.g, text.h) == ((-2, 2), (-1, 1))
    assert (caption.g, caption.h) == ((-1, 1), (-2, 2))
