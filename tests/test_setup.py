"""Set-up: locks are complete, one set of Python versions is named everywhere, and `make` takes a Python that runs."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
WORKFLOW: dict[str, Any] = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())
_PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)", re.MULTILINE)
_BUILDS = re.compile(r"torch|triton|cuda-.*|nvidia-.*")  # what differs between the builds for the CPU and for CUDA


def pins(lock: str) -> dict[str, str]:
    return {pin["name"]: pin["version"] for pin in _PIN.finditer((PROJECT / lock).read_text())}


def test_what_the_project_needs_is_locked_within_its_ranges() -> None:
    locked = pins("requirements.lock") | pins("requirements-torch.lock")
    extras = PYPROJECT["optional-dependencies"].values()
    for requirement in map(Requirement, [*PYPROJECT["dependencies"], *(each for extra in extras for each in extra)]):
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-models.lock", "requirements-uv.lock"])
def test_each_locked_package_has_hashes(lock: str) -> None:
    blocks = re.split(r"^(?=[a-z])", (PROJECT / lock).read_text(), flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pins(lock))
    assert all("--hash=sha256:" in block for block in blocks)


def test_only_torch_and_what_its_build_asks_for_have_no_hashes() -> None:
    assert all(_BUILDS.fullmatch(name) for name in pins("requirements-torch.lock"))
    assert not any(_BUILDS.fullmatch(name) for name in pins("requirements.lock"))


def test_the_workflow_checks_each_supported_python_with_pinned_actions_and_no_rights() -> None:
    supported = SpecifierSet(PYPROJECT["requires-python"])
    job = WORKFLOW["jobs"]["check"]
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in supported]
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in job["steps"] if "uses" in step)


def test_hooks_run_the_tools_of_make_lint() -> None:
    hooks = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert lint
    tools = [hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in hooks]
    assert tools == re.findall(r"\$\(BIN\)/(ruff \w+|\w+)", lint[1])


@pytest.mark.parametrize(
    ("commands", "chosen"),
    [
        ({"python3.13": "exit 127", "python3.12": "run"}, "python3.12"),
        ({"python3.13": "run", "python3.11": "run"}, "python3.13"),
        ({"python3.13": "exit 127", "python3.12": "exit 127", "python3.11": "exit 127", "python3": "exit 1"}, ""),
    ],
    ids=["a command that does not run is passed over", "the newest", "none"],
)
def test_make_takes_the_newest_python_that_runs(tmp_path: Path, commands: dict[str, str], chosen: str) -> None:
    for name, action in commands.items():
        script = tmp_path / name
        script.write_text("#!/bin/sh\n" + (f'exec "{sys.executable}" "$@"\n' if action == "run" else f"{action}\n"))
        script.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")}
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    command = ["make", "--no-print-directory", "--eval", "chosen: ; @echo '$(PYTHON)'", "chosen"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("make is older than 3.82")
    assert done.stdout.strip() == chosen


def test_a_bare_make_names_every_target() -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    phony = re.search(r"^\.PHONY: (.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    assert re.findall(r"^  make ([a-z-]+)  +\S", done.stdout, re.MULTILINE) == phony[1].split()
