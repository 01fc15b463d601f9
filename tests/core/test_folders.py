"""Outputs appear finished or not at all."""

import os
import stat
import subprocess
import sys
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


KILLED = """
import os, shutil, sys
from pathlib import Path
from core import folders

left = int(sys.argv[1])  # calls that move or remove a folder, until the process is killed

def counted(call):
    def inner(*args, **options):
        global left
        if left == 0:
            os._exit(9)
        left -= 1
        call(*args, **options)
        if left == 0 and sys.argv[2] == "after":
            os._exit(9)
    return inner

os.replace, shutil.rmtree = counted(os.replace), counted(shutil.rmtree)
with folders.finished_folder(Path("room/out")) as partial:
    (partial / "a").write_text("new")
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", range(1, 7))
def test_a_kill_at_any_step_loses_no_folder(tmp_path: Path, step: int, moment: str) -> None:
    """The next attempt finds the old folder or the new one, whole, although it breaks off itself."""
    target = tmp_path / "room" / "out"
    target.mkdir(parents=True)
    (target / "a").write_text("old")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(step), moment], cwd=tmp_path, env=environment)
    assert killed.returncode == (9 if step < 6 or moment == "after" else 0)  # so these are all steps
    with pytest.raises(RuntimeError), finished_folder(target):
        raise RuntimeError
    assert (target / "a").read_text() in ("old", "new")
    assert [path.name for path in (tmp_path / "room").iterdir()] == ["out"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_the_old_folder(
    tmp_path: Path, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with finished_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("old")
    calls, replace = [0], os.replace

    def fails_once(source: Path, target: Path) -> None:
        calls[0] += 1
        if calls[0] == failing:
            raise OSError("no space")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_once)
    with pytest.raises(OSError, match="no space"), finished_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("new")
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


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
