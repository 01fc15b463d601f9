"""Outputs appear finished or not at all."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.folders import content_hash, finished_file, finished_folder


def test_a_folder_appears_only_when_its_body_ends_well(tmp_path: Path) -> None:
    with finished_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    with pytest.raises(RuntimeError), finished_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("2")
        raise RuntimeError
    assert (tmp_path / "out" / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_file_appears_only_when_its_body_ends_well(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), finished_file(tmp_path / "f") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_outputs_follow_the_umask_even_where_a_library_writes_for_the_owner_alone(tmp_path: Path, umask: int) -> None:
    with finished_folder(tmp_path / "model") as partial:
        save_file({"w": torch.zeros(1)}, partial / "model.safetensors")
        (partial / "config.json").write_text("{}")
        (Path(tempfile.mkdtemp(dir=partial)) / "inner").touch()
    with finished_file(tmp_path / "alone.safetensors") as partial:
        save_file({"w": torch.zeros(1)}, partial)
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(paths) == 4
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in paths} == {oct(0o666 & ~umask)}
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in folders} == {oct(0o777 & ~umask)}


def test_the_hash_is_of_contents_and_names(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text("same")
    first = content_hash(tmp_path / "x")
    (tmp_path / "x" / "f").write_text("other")
    assert content_hash(tmp_path / "x") != first
    (tmp_path / "x" / "f").write_text("same")
    assert content_hash(tmp_path / "x") == first
    (tmp_path / "x" / "f").rename(tmp_path / "x" / "g")
    assert content_hash(tmp_path / "x") != first
