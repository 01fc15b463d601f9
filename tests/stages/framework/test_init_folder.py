"""Which folder `init_from` means."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from core.errors import InputError
from stages.framework.dependencies import dependencies
from stages.framework.params import check_params
from stages.framework.warm_start import init_folder

PARAMS = Path(__file__).parents[3] / "params.yaml"


def params_with(init_from: str) -> dict[str, Any]:
    """params.yaml, where an item of every stage starts from this."""
    params: dict[str, Any] = yaml.safe_load(PARAMS.read_text())
    params["pretraining"]["architectures"]["luong"]["init_from"] = init_from
    params["language_models"]["small"]["init_from"] = init_from
    grouped = params["reward_models"]["variants"]["grouped"]
    params["reward_models"]["variants"]["more"] = {**grouped, "init_from": init_from}
    params["prefix_tuning"]["variants"]["more"] = {"kind": "prefix", "init_from": init_from}
    return params


@pytest.mark.parametrize(
    ("stage", "item", "init_from", "folder"),
    [
        ("reward_model", "more", "grouped", "artifacts/reward_models/grouped"),
        ("reward_model", "more", "reward_models/grouped", "artifacts/reward_models/grouped"),
        ("reward_model", "more", "artifacts/reward_models/grouped", "artifacts/reward_models/grouped"),
        ("reward_model", "more", "models/night_1", "models/night_1"),
        ("reward_model", "grouped", "grouped", None),
        ("prefix_tuning", "more", "prefix", "artifacts/prefix_tuning/prefix"),
        ("prefix_tuning", "more", "prefix_tuning/prefix", "artifacts/prefix_tuning/prefix"),
        ("pretraining", "luong", "models/luong", "models/luong"),
        ("pretraining", "luong", "transformer", "artifacts/translators/transformer"),  # refused where it is loaded
        ("pretraining", "transformer", "models/luong", None),
        ("language_model", "small", "models/lm", "models/lm"),
        ("evaluation", "luong", "models/luong", None),
        ("inputs", None, "models/luong", None),
    ],
)
def test_an_item_of_the_same_stage_or_else_a_folder(
    stage: str, item: str | None, init_from: str, folder: str | None
) -> None:
    values = params_with(init_from)
    expected = Path(folder) if folder else None
    assert init_folder(stage, item, values) == expected
    assert init_folder(stage, item, check_params(values, "params.yaml")) == expected


@pytest.mark.parametrize(
    ("stage", "item", "init_from"),
    [
        ("reward_model", "more", "more"),
        ("reward_model", "more", "artifacts/reward_models/more"),
        ("pretraining", "luong", "luong"),
        ("language_model", "small", "artifacts/language_models/small/"),
    ],
)
def test_what_a_stage_makes_itself_is_refused(stage: str, item: str, init_from: str) -> None:
    with pytest.raises(InputError, match=f"init_from: {init_from} is what this stage itself makes"):
        init_folder(stage, item, params_with(init_from))


def test_the_content_of_the_folder_is_a_dependency(project: Path) -> None:
    """So a stage's key, its record and its check at the end have it."""
    params = check_params(params_with("night_1"), "params.yaml")
    assert "night_1" not in dependencies("reward_model", "more", params).digests
    Path("night_1").mkdir()
    digests = []
    for content in ("a", "b"):
        Path("night_1/model.safetensors").write_text(content)
        digests.append(dependencies("reward_model", "more", params).digests["night_1"])
    assert digests[0] != digests[1]
