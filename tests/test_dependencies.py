"""dvc.yaml names, for each stage, the code that its result depends on: all of it, and nothing else."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[1]
STAGES: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
TRANSLATORS = PROJECT / "lightning_modules/translators"
ARCHITECTURES = sorted(folder for folder in TRANSLATORS.iterdir() if (folder / "__init__.py").is_file())

# How a stage is run and where raw data are, not what is computed: an edit of these changes no result.
MACHINERY = (PROJECT / "core", PROJECT / "stages/framework", PROJECT / "stages/configs", PROJECT / "data/mirror.py")
# Their modules are chosen by name while a stage runs, so all of them count.
NO_CODE = ("artifacts", "labeled", "params.yaml")
CHOSEN_BY_NAME = {"data/corpora", "data/comparisons", "data/long_lag"}


def module_file(name: str) -> Path | None:
    path = PROJECT / name.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def imports(path: Path) -> set[Path]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {file for file in map(module_file, names) if file}


def closure(*start: Path) -> set[Path]:
    """The modules that are loaded with `start`, without packages' `__init__.py` and machinery."""
    loaded: set[Path] = set()
    todo = list(start)
    while todo:
        path = todo.pop()
        if path not in loaded and not any(path.is_relative_to(place) for place in MACHINERY):
            loaded.add(path)
            todo += imports(path)
    return {path for path in loaded if path.name != "__init__.py"}


def modules(place: Path) -> set[Path]:
    """The modules in a file or folder; links count as what they point to."""
    files = place.rglob("*.py") if place.is_dir() else [place]
    return {file.resolve() for file in files if file.name != "__init__.py"}


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {"inputs"}))  # it always runs
def test_a_stage_names_the_code_it_depends_on(stage: str) -> None:
    entry = STAGES[stage].get("do", STAGES[stage])
    by_architecture = "lightning_modules/translators/${key}" in entry["deps"]
    places = [PROJECT / dep for dep in entry["deps"] if dep.split("/")[0] not in NO_CODE and "$" not in dep]
    named = set.union(*map(modules, places))
    needed = closure(PROJECT / f"stages/{stage}.py")
    for architecture in ARCHITECTURES if by_architecture else []:
        assert closure(*modules(architecture)) <= named | modules(architecture)
        needed |= closure(*modules(architecture)) - modules(architecture)
    assert needed <= named, "all of it"
    for place in places:
        if str(place.relative_to(PROJECT)) not in CHOSEN_BY_NAME:
            assert modules(place) <= needed, "nothing else"
    for place in places:
        assert not any(other != place and other.is_relative_to(place) for other in places), f"{place} is listed already"


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda folder: folder.name)
def test_an_architecture_links_what_it_shares_with_others(architecture: Path) -> None:
    files = set(architecture.glob("*.py"))
    shared = {file for file in closure(*files) if file.is_relative_to(TRANSLATORS) and file.parent != architecture}
    linked = {link.resolve() for link in (architecture / "linked").glob("*.py")}
    named_by_every_stage = {TRANSLATORS / "base.py", TRANSLATORS / "config.py"}
    assert linked == shared - named_by_every_stage


def test_stages_that_choose_a_part_by_name_depend_on_it() -> None:
    assert "data/corpora" in STAGES["corpus"]["do"]["deps"]
    assert "data/long_lag" in STAGES["long_lag"]["do"]["deps"]
    for stage in ("pretraining", "evaluation", "responses"):
        assert "lightning_modules/translators/${key}" in STAGES[stage]["do"]["deps"]
