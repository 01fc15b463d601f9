"""What dvc.yaml declares of a stage, with the values that dvc puts in."""

from pathlib import Path

import pytest

from stages.framework.dependencies import declared, lines

PROJECT = Path(__file__).parents[3]
PARAMS = {
    "corpus": {"name": "kjv_bbe", "limit": None},
    "tokenizer": {"kind": "bpe"},
    "language_models": {"name": {}, "kind": {}},
    "reward_models": {"variants": {"kind": {"backbone": "language_models/name", "collection": "people"}}},
    "prefix_tuning": None,
}


def test_the_items_of_a_section_may_have_any_name() -> None:
    assert lines(PARAMS, "corpus") == ["kjv_bbe"]
    assert lines(PARAMS, "tokenizer") == ["bpe"]
    assert lines(PARAMS, "language_models") == ["name", "kind"]
    assert lines(PARAMS, "reward_models.variants") == ["kind"]
    assert lines(PARAMS, "prefix_tuning.variants") == lines(PARAMS, "comparisons") == []


def test_templates_have_the_values_of_the_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    names, files = declared("reward_model", "kind", PARAMS)
    assert names[-1] == "reward_models.variants.kind"
    assert {
        Path("artifacts/language_models/name"),
        Path("artifacts/comparisons/people"),
        Path("artifacts/inputs/reward_models/kind.json"),
    } <= set(files)
