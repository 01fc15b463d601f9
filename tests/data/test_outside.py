"""What a run reads from outside is known by its content."""

import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from core.errors import InputError
from core.folders import file_hash
from data import outside
from data.outside import Fingerprints

COMMIT = "1" * 40


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, Any], list[str]]]:
    """Gives the fingerprints of references, and the names of the files that were hashed for them; each call uses the same cache."""

    def fingerprints(*references: str | Path) -> tuple[dict[str, Any], list[str]]:
        hashed = []

        def hash_and_note(path: Path) -> str:
            hashed.append(path.name)
            return file_hash(path)

        monkeypatch.setattr(outside, "file_hash", hash_and_note)
        looking = Fingerprints(tmp_path / "work" / "inputs.json")
        contents = looking.of(map(str, references))
        looking.save()
        return contents, hashed

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRADUS_DATA", raising=False)
    return fingerprints


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rankings.jsonl"
    path.write_text("first")
    return path


def test_a_file_has_the_hash_of_its_content(look: Callable[..., Any], file: Path) -> None:
    assert look(file)[0] == {str(file): file_hash(file)}


def test_a_folder_has_the_hashes_of_all_its_files(look: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    for name in ("config.json", "tokenizer/vocab.txt"):
        (folder / name).write_text(name)
    expected = {name: file_hash(folder / name) for name in ("config.json", "tokenizer/vocab.txt")}
    assert look(folder)[0] == {str(folder): expected}
    (folder / "tokenizer/vocab.txt").unlink()
    assert look(folder)[0] == {str(folder): {"config.json": expected["config.json"]}}


def test_a_package_has_its_version(look: Callable[..., Any]) -> None:
    contents, _ = look("package:pytest", "package:no-such-package")
    assert contents == {"package:pytest": version("pytest"), "package:no-such-package": "not installed"}


def test_without_a_network_a_hub_repository_has_the_commit_of_the_copy_on_this_machine(
    look: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    ref = tmp_path / "hub/datasets--owner--rankings/refs/main"
    ref.parent.mkdir(parents=True)
    ref.write_text(COMMIT)
    contents, _ = look("hub:datasets/owner/rankings", "hub:models/owner/rankings")
    assert contents == {"hub:datasets/owner/rankings": COMMIT, "hub:models/owner/rankings": None}


def test_a_file_is_hashed_once(look: Callable[..., Any], file: Path) -> None:
    first, hashed = look(file)
    assert hashed == [file.name]
    assert look(file) == (first, [])


def write_over(file: Path) -> None:
    """Other content of the same size, a moment later."""
    earlier = file.stat().st_mtime_ns
    file.write_text("other")
    os.utime(file, ns=(earlier + 1, earlier + 1))


def append_and_set_time_back(file: Path) -> None:
    earlier = file.stat()
    file.write_text("first and more")
    os.utime(file, ns=(earlier.st_atime_ns, earlier.st_mtime_ns))


def replace_by_a_file_of_the_same_size_and_time(file: Path) -> None:
    earlier = file.stat()
    new = file.with_name("new")
    new.write_text("other")
    os.utime(new, ns=(earlier.st_atime_ns, earlier.st_mtime_ns))
    os.replace(new, file)


@pytest.mark.parametrize("change", [write_over, append_and_set_time_back, replace_by_a_file_of_the_same_size_and_time])
def test_a_changed_file_is_hashed_again(look: Callable[..., Any], file: Path, change: Callable[[Path], None]) -> None:
    first, _ = look(file)
    change(file)
    changed, hashed = look(file)
    assert hashed == [file.name]
    assert changed == {str(file): file_hash(file)} != first


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "3", '{"PATH": 3}'])
def test_a_broken_cache_costs_a_hash_and_nothing_else(look: Callable[..., Any], file: Path, text: str) -> None:
    cache = file.parent / "work" / "inputs.json"
    cache.parent.mkdir()
    cache.write_text(text.replace("PATH", str(file)))
    assert look(file) == ({str(file): file_hash(file)}, [file.name])
    assert look(file)[1] == [], "the cache is written again"


def test_the_cache_forgets_what_nobody_asks_for(look: Callable[..., Any], file: Path) -> None:
    look(file)
    look("package:pytest")
    assert json.loads((file.parent / "work" / "inputs.json").read_text()) == {}


def test_a_missing_file_is_named(look: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv: no such file or folder, but params\.yaml names it"):
        look(tmp_path / "nowhere.csv")


def test_a_file_of_the_mirror_has_the_same_name_wherever_the_mirror_is(
    look: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = []
    for place in ("here", "there"):
        file = tmp_path / place / "wmt15" / "rankings.jsonl.gz"
        file.parent.mkdir(parents=True)
        file.write_text("same")
        monkeypatch.setenv("GRADUS_DATA", str(tmp_path / place))
        contents.append(look(file)[0])
    assert contents[0] == contents[1] == {"mirror/wmt15/rankings.jsonl.gz": file_hash(file)}
