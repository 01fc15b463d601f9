"""The layout of docs/concepts/architecture.md: imports run downward, and folders and files stay small enough to find things in."""

import ast
import subprocess
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[1]
# Each package imports only from those below it.
LAYERS = ("gradus", "flows", "stages", "model_io", "lightning_modules", "metrics", "data", "core")
# Beside that: flows start stages through dvc, and what trains must import on a machine without the pipeline's tools.
NEVER = {
    "flows": {"stages", "model_io", "lightning_modules", "metrics", "data"},
    "stages": {"prefect", "dvc"},
    **{package: {"prefect", "dvc", "mlflow"} for package in ("model_io", "lightning_modules", "metrics", "data")},
}
MOST_FILES, MOST_LINES, MOST_GRAPH_LINES = 16, 400, 200


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [PROJECT / name for name in listed.splitlines() if (PROJECT / name).is_file()]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("package", LAYERS)
def test_imports_run_downward(package: str) -> None:
    above = set(LAYERS[: LAYERS.index(package)])
    forbidden = above | {"tests", "benchmarks"} | NEVER.get(package, set())
    files = tracked(f"{package}/*.py")
    assert files
    for path in files:
        wrong = {name.split(".")[0] for name in imported(path)} & forbidden
        assert not wrong, f"{path.relative_to(PROJECT)} imports {', '.join(sorted(wrong))}"


def test_what_stages_share_knows_no_single_stage() -> None:
    stages = {f"stages.{path.stem}" for path in (PROJECT / "stages").glob("*.py")} - {"stages.__init__"}
    for path in tracked("stages/framework/*.py", "stages/training/*.py", "stages/reporting/*.py"):
        assert not imported(path) & stages, path


def test_every_stage_file_is_a_stage_of_the_graph() -> None:
    names = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    assert {path.stem for path in (PROJECT / "stages").glob("*.py")} - {"__init__"} == set(names)


def test_files_and_folders_have_one_subject() -> None:
    code = [path for path in tracked("*.py") if not path.is_symlink()]
    for path in code:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"{path.relative_to(PROJECT)} has {lines} lines"
    for folder in {path.parent for path in code}:
        count = sum(path.parent == folder for path in code)
        assert count <= MOST_FILES, f"{folder.relative_to(PROJECT)} has {count} files"
    assert len((PROJECT / "dvc.yaml").read_text().splitlines()) < MOST_GRAPH_LINES
