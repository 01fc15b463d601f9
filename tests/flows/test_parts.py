"""Every part of the pipeline is a flow that can be run, served and deployed by its name."""

import subprocess
import sys
from pathlib import Path

import pytest
from prefect.flows import load_flow_from_entrypoint

from flows import parts
from flows.graph import TARGETS
from gradus.running import FLOWS

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", TARGETS)
def test_a_served_part_is_found_by_its_name(name: str) -> None:
    part = getattr(parts, name)
    assert part.name == name
    assert part.description
    assert load_flow_from_entrypoint(f"flows.parts:{name}") is part


def test_a_deployment_finds_them_by_file_and_name() -> None:
    code = "from prefect.flows import load_flow_from_entrypoint as load; import sys; print(*(load(a).name for a in sys.argv[1:]))"
    entrypoints = ["flows/pipeline.py:pipeline", *(f"flows/parts.py:{name}" for name in TARGETS)]
    names = subprocess.run(
        [sys.executable, "-c", code, *entrypoints], cwd=PROJECT, capture_output=True, check=True
    ).stdout
    assert names.decode().split() == ["pipeline", *TARGETS]


def test_the_command_knows_all_of_them() -> None:
    assert set(FLOWS) == {"pipeline", *TARGETS}
