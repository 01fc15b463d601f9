"""An experiment has the stages of its sections, and what changes outside re-runs what reads it. No stage runs here."""

import contextlib
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.errors import InputError
from flows.graph import Graph, plan
from tests.project import Project

RANKING = {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "labeler": "ann"}
REWARD_FROM_RANKINGS = {"base_model@smollm2", "comparisons@people", "reward_model@top_layers", "report"}
TRANSLATOR = {"pretraining@transformer", "evaluation@transformer"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The working directory, a copy of this project."""
    folder = tmp_path_factory.mktemp("sections") / "gradus"
    folder.mkdir()
    copy = Project(folder)
    (folder / "rankings.jsonl").write_text(json.dumps(RANKING) + "\n")
    (folder / "examples.csv").write_text("input,output\na,b\n")
    for name in ("source.txt", "target.txt"):
        (folder / name).write_text("a\nb\n")
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("HOME", copy.environment["HOME"])
        patch.delenv("GRADUS_DATA", raising=False)
        yield copy


def use(experiment: str) -> Graph:
    """Gives params.yaml the values of an experiment, and says which stages there are."""
    shutil.copy(f"experiments/{experiment}.yaml", "params.yaml")
    return plan().graph


def up_to_date() -> None:
    """Gives every stage an output, and lets dvc take it for the stage's own."""
    from dvc.repo import Repo

    for output in plan().graph.output.values():
        if not output.exists():
            output.mkdir(parents=True)
            (output / "made").touch()
    with Repo() as repo:
        repo.commit(force=True)


@contextlib.contextmanager
def params() -> Iterator[dict[str, Any]]:
    """params.yaml, to be changed."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    yield values
    Path("params.yaml").write_text(yaml.safe_dump(values))


@pytest.mark.parametrize(
    ("experiment", "stages"),
    [
        ("reward_from_rankings", REWARD_FROM_RANKINGS),
        (
            "prefix_from_table",
            {"corpus@table", "base_model@smollm2", "prefix_tuning@none", "prefix_tuning@prefix", "report"},
        ),
        ("translate_my_files", {"corpus@parallel_text", "tokenizer@bpe", "encoding@bpe", *TRANSLATOR, "report"}),
        (
            "long_lag",
            {
                "report",
                *(f"long_lag@task-{task}" for task in ("1", "1-slow", "1-caption", "2a", "2b", "2c", "3a", "3b", "3c")),
                *(f"long_lag@task-{task}" for task in ("4", "5", "6a", "6b", "6a-forget-gate")),
            },
        ),
    ],
)
def test_an_experiment_has_the_stages_of_its_sections(project: Project, experiment: str, stages: set[str]) -> None:
    assert use(experiment).upstream.keys() == stages


def test_a_line_of_an_imported_file_re_runs_what_reads_it(project: Project) -> None:
    use("reward_from_rankings")
    up_to_date()
    assert plan().to_run == set()
    with open("rankings.jsonl", "a") as file:
        file.write(json.dumps({**RANKING, "labeler": "bob"}) + "\n")
    assert plan().to_run == {"comparisons@people", "reward_model@top_layers", "report"}
    assert "artifacts/inputs/comparisons/people.json" in project.run("dvc", "status", "comparisons")


def test_what_is_added_runs_and_what_was_made_does_not(project: Project) -> None:
    use("reward_from_rankings")
    up_to_date()
    Path("more.jsonl").write_text(json.dumps(RANKING) + "\n")
    with params() as values:
        values["comparisons"]["more"] = {"imports": [{"source": "more.jsonl"}]}
    new = {"comparisons@more", "report"}
    assert plan().to_run == new
    with params() as values:
        variants = values["reward_models"]["variants"]
        variants["of_more"] = {**variants["top_layers"], "collection": "more"}
    assert plan().to_run == (new := new | {"reward_model@of_more"})
    with params() as values:
        translator = yaml.safe_load(Path("experiments/translate_my_files.yaml").read_text())
        values |= {section: translator[section] for section in ("corpus", "tokenizer", "encoding", "pretraining")}
        values["evaluation"] = translator["evaluation"]
    assert plan().to_run == (new | {"corpus@parallel_text", "tokenizer@bpe", "encoding@bpe", *TRANSLATOR})


def test_a_line_of_parallel_text_re_runs_what_reads_it(project: Project) -> None:
    stages = use("translate_my_files").upstream.keys()
    up_to_date()
    Path("target.txt").write_text("a\nc\n")
    assert plan().to_run == stages, "all of them come from the corpus"


def test_the_mirror_is_known_by_what_it_holds(
    project: Project, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mirror / "wmt15").mkdir()
    rankings = mirror / "wmt15/rankings.jsonl.gz"
    rankings.write_bytes(gzip.compress(json.dumps(RANKING).encode()))
    graph = use("wmt15")
    of_people = {"comparisons@people", *(stage for stage in graph.upstream if stage.startswith("reward_model@"))}
    assert not any(stage.startswith(("pretraining", "evaluation", "responses")) for stage in graph.upstream)
    assert graph.upstream["comparisons@people"] == set()
    assert graph.upstream["reward_model@smollm2"] == {"base_model@smollm2", "comparisons@people"}
    up_to_date()

    moved = tmp_path / "moved"
    mirror.rename(moved)
    with pytest.raises(InputError, match=r"GRADUS_DATA=.*no such folder"):
        plan()
    monkeypatch.setenv("GRADUS_DATA", str(moved))
    assert plan().to_run == set(), "its place is no part of it"

    (moved / "wmt15/rankings.jsonl.gz").write_bytes(gzip.compress(json.dumps({**RANKING, "ranks": [2, 1]}).encode()))
    assert plan().to_run == of_people | {"report"}
    up_to_date()
    (moved / "multi30k/val.de.gz").write_bytes(gzip.compress(b"Ein Satz.\n"))
    of_corpus = graph.downstream(["corpus@multi30k"])
    assert plan().to_run == of_corpus
    assert not of_corpus & {"comparisons@people", "base_model@smollm2", "reward_model@smollm2"}


def test_a_stage_refuses_a_part_of_what_its_settings_name(project: Project) -> None:
    use("tiny")
    Path("artifacts/responses/transformer").mkdir(parents=True)
    output = project.run("dvc", "repro", "--single-item", "reference_comparisons@ours", expect=255)
    assert "reference_comparisons@ours: error: artifacts/responses/luong" in output
    assert not Path("artifacts/comparisons/ours").exists()


def test_an_experiment_that_lacks_a_file_is_refused_before_anything_runs(project: Project) -> None:
    use("reward_from_rankings")
    Path("rankings.jsonl").rename("away.jsonl")
    with pytest.raises(InputError, match=r"inputs: error: rankings\.jsonl: no such file"):
        plan()
    ended = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], env=project.environment, capture_output=True, text=True, check=False
    )
    Path("away.jsonl").rename("rankings.jsonl")
    assert ended.returncode == 255
    assert "inputs: error: rankings.jsonl: no such file" in ended.stderr
    assert "comparisons@people" not in ended.stdout
