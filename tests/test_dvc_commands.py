"""DVC's own commands show what a run measured. The tests run in order, on one tiny task of the section long_lag."""

import json
from typing import Any

import pytest
import yaml

from tests.project import Project

COMMIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "a run")
TASK = {"task": "3a", "settings": {"T": 10, "round": 20}, "trials": 2, "sequences": 20}
METRIC = "long_lag.quick.solved_share"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has run, with its lock in git, and run again with another seed."""
    folder = tmp_path_factory.mktemp("commands") / "gradus"
    folder.mkdir()
    made = Project(folder)
    params = {"format": 3, "seed": 1, "long_lag": {"tasks": {"quick": TASK}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "dvc.lock").unlink(missing_ok=True)
    made.run("dvc", "repro", "--quiet")
    made.run("git", "add", "params.yaml", "dvc.lock")
    made.run(*COMMIT)
    return made


def printed(project: Project, *command: str) -> Any:
    return json.loads(project.run("dvc", *command, "--json"))


def test_metrics_show_has_the_headline_metrics(project: Project) -> None:
    shown = printed(project, "metrics", "show")[""]["data"]
    assert shown == {"report/metrics.json": {"data": {"long_lag": {"quick": {"solved_share": 0.0}}}}}


def test_plots_show_and_diff_need_no_curve(project: Project) -> None:
    for command in ("show", "diff"):
        project.run("dvc", "plots", command, "--quiet")


def test_exp_run_with_another_setting_is_shown_beside_the_first(project: Project) -> None:
    project.run("dvc", "exp", "run", "--quiet", "--name", "longer", "--set-param", "long_lag.tasks.quick.sequences=40")
    table = project.run("dvc", "exp", "show", "--csv")
    heading, *rows = (line.split(",") for line in table.splitlines())
    column = heading.index("long_lag.tasks.quick.sequences")
    sequences = {row[0] or row[1]: row[column] for row in rows}
    assert METRIC in heading
    assert any("longer" in row and row[column] == "40" for row in rows), table
    assert "20" in sequences.values()


def test_diffs_show_what_differs_from_the_commit(project: Project) -> None:
    changed = printed(project, "params", "diff")
    assert changed == {"params.yaml": {"long_lag.tasks.quick.sequences": {"old": 20, "new": 40, "diff": 20}}}
    metrics = printed(project, "metrics", "diff", "--all")
    assert metrics["report/metrics.json"][METRIC] == {"old": 0.0, "new": 0.0, "diff": 0.0}


def test_curves_are_plotted_by_epoch(project: Project) -> None:
    curve = [{"epoch": epoch, "step": 5 * epoch, "validation_loss": 1 / epoch} for epoch in (1, 2, 3)]
    folder = project.folder / "report/curves"
    (folder / "translator_luong.json").write_text(json.dumps(curve))
    (folder / "reward_model_grouped.json").write_text(json.dumps(curve))
    for command in ("show", "diff"):
        project.run("dvc", "plots", command, "--quiet")
        page = (project.folder / "dvc_plots/index.html").read_text()
        assert "translator_luong" in page
        assert "reward_model_grouped" in page
        assert '"validation_loss"' in page
