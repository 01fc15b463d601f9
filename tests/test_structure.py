"""Imports run one way (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
FORBIDDEN = {
    "data": {"lightning_modules", "stages", "flows", "gradus", "prefect", "dvc", "mlflow"},
    "lightning_modules": {"stages", "flows", "gradus", "prefect", "dvc", "mlflow"},
    "stages": {"prefect", "dvc"},
    "flows": {"data", "lightning_modules", "stages"},
}
# The two crossings that are meant: settings are data's, and params.yaml as a whole has a section of flows' settings.
ALLOWED = {("flows/settings.py", "data"), ("stages/params.py", "flows")}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_package_imports_what_it_must_not_know(package: str) -> None:
    for path in (PROJECT / package).rglob("*.py"):
        name = str(path.relative_to(PROJECT))
        wrong = {module for module in imported(path) & FORBIDDEN[package] if (name, module) not in ALLOWED}
        assert not wrong, f"{name} imports {', '.join(wrong)}"


def test_every_stage_file_is_a_stage_of_the_graph() -> None:
    import yaml

    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    modules = {p.stem for p in (PROJECT / "stages").glob("*.py") if "if __name__" in p.read_text()}
    assert modules == set(stages)


def test_files_have_one_subject() -> None:
    long = {
        str(p.relative_to(PROJECT))
        for p in PROJECT.glob("*/**/*.py")
        if not any(part.startswith(".") for part in p.relative_to(PROJECT).parts)
        and len(p.read_text().splitlines()) > 400
    }
    assert not long
