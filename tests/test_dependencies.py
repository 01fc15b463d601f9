"""dvc.yaml names, for each stage, the code that its result depends on: all of it, and nothing else."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[1]
STAGES: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]

# How a stage is run, not what it computes: an edit of these changes no result.
MACHINERY = {
    "data/errors.py", "data/folders.py", "data/mirror.py", "data/settings.py", "flows/settings.py", "gradus/tracking.py",
    "stages/declared.py", "stages/layout.py", "stages/params.py", "stages/processes.py", "stages/progress.py", "stages/stage.py",
}  # fmt: skip


def module_file(name: str) -> Path | None:
    for path in (PROJECT / f"{name.replace('.', '/')}.py", PROJECT / name.replace(".", "/") / "__init__.py"):
        if path.is_file():
            return path
    return None


def imports(path: Path) -> set[Path]:
    found: set[Path | None] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {module_file(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(module_file(node.module))
            found |= {module_file(f"{node.module}.{alias.name}") for alias in node.names}
    return {p for p in found if p and p.name != "__init__.py"}


def closure(start: Path) -> set[str]:
    found: set[str] = set()
    todo = [start]
    while todo:
        path = todo.pop()
        name = str(path.relative_to(PROJECT))
        if name in found | MACHINERY:
            continue
        found.add(name)
        todo += imports(path)
    return found


ARCHITECTURES = [
    p for p in (PROJECT / "lightning_modules").glob("*.py") if "(Translator):" in p.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_the_code_it_depends_on(stage: str) -> None:
    entry = STAGES[stage].get("do", STAGES[stage])
    named = {d for d in entry["deps"] if d.endswith(".py") and "${key}" not in d}
    expected = closure(PROJECT / "stages" / f"{stage}.py")
    if "lightning_modules/${key}.py" in entry["deps"]:  # any architecture, with what it imports
        expected |= set.union(*map(closure, ARCHITECTURES)) - {str(p.relative_to(PROJECT)) for p in ARCHITECTURES}
    assert named - MACHINERY == expected


def test_corpora_are_chosen_by_name_so_all_of_them_count() -> None:
    assert "data/corpora" in STAGES["corpus"]["deps"]
    assert all(
        "lightning_modules/${key}.py" in STAGES[s]["do"]["deps"] for s in ("pretraining", "evaluation", "responses")
    )
