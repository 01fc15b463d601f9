"""Outputs appear finished or not at all."""

from pathlib import Path

import pytest

from data.folders import content_hash, finished_file, finished_folder


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
