"""Splits by prompt and folds by labeler."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from data.comparisons.collection import read_collection
from data.comparisons.importing.appending import append_rankings
from data.comparisons.ranking import Ranking
from data.comparisons.splitting import labeler_folds, split_by_prompt

Make = Callable[..., Ranking]


def test_all_rankings_of_a_prompt_are_in_one_part(tmp_path: Path, make: Make) -> None:
    records = [
        make(prompt=f"{style}prompt {i}{end}")
        for i in range(200)
        for style, end in (("", ""), ("The ", "!"), ("the  ", " ?"))
    ]
    append_rankings(records, tmp_path / "c")
    parts = split_by_prompt(read_collection(tmp_path / "c"), 0.2, 0.3)
    assert sum(map(len, parts.values())) == 600
    assert 0.2 < len(parts["test"]) / 600 < 0.4
    home = {prompt: part for part, rows in parts.items() for prompt in rows["prompt"]}
    assert all(home[f"The prompt {i}!"] == home[f"the  prompt {i} ?"] for i in range(200))


def test_folds_share_no_labeler_and_are_of_like_size(tmp_path: Path, make: Make) -> None:
    counts = [40, 31, 30, 20, 12, 9, 5, 5, 3, 1, 1]
    records = [make(prompt=f"p{i}", labeler=f"l{who}") for who, count in enumerate(counts) for i in range(count)]
    chance = np.random.default_rng(0)
    kept = []
    for folder in ("c", "d"):
        append_rankings([records[i] for i in chance.permutation(len(records))], tmp_path / folder)
        rows = read_collection(tmp_path / folder)
        folds = labeler_folds(rows, 3)
        assert sorted(np.concatenate(folds)) == list(range(len(records)))
        names = [set(rows.select(fold)["labeler"]) for fold in folds]
        assert sum(map(len, names)) == len(set.union(*names)) == len(counts)
        assert max(map(len, folds)) - min(map(len, folds)) <= 5
        kept.append(names)
    assert kept[0] == kept[1]  # whatever the order of the rows
    assert kept[0] == [{"l0", "l5", "l8"}, {"l1", "l4", "l6", "l7"}, {"l2", "l3", "l9", "l10"}]


def test_more_folds_than_labelers(tmp_path: Path, make: Make) -> None:
    append_rankings([make(), make(labeler="bob")], tmp_path / "c")
    assert [len(fold) for fold in labeler_folds(read_collection(tmp_path / "c"), 2)] == [1, 1]
    with pytest.raises(InputError, match=r"3 folds of labelers, but the rankings are by 2: ann, bob"):
        labeler_folds(read_collection(tmp_path / "c"), 3)


def test_prompts_that_share_a_reference_are_in_one_part(tmp_path: Path, make: Make) -> None:
    records = [make(prompt=f"{language} {i}", reference=f"Text {i}.") for i in range(200) for language in ("de", "cs")]
    records += [make(prompt=f"de {i}", reference=f"other text {i}", labeler="bob") for i in range(200)]
    records += [make(prompt=f"ru {i}", reference=f"OTHER text {i}!") for i in range(200)]
    records += [make(prompt="Cafe\u0301"), make(prompt="CAF\u00c9")]
    append_rankings(records, tmp_path / "c")
    parts = split_by_prompt(read_collection(tmp_path / "c"), 0.2, 0.3)
    assert 0.2 < len(parts["test"]) / len(records) < 0.4
    home = {prompt: part for part, rows in parts.items() for prompt in rows["prompt"]}
    assert all(home[f"de {i}"] == home[f"cs {i}"] == home[f"ru {i}"] for i in range(200))
    assert home["Cafe\u0301"] == home["CAF\u00c9"]
