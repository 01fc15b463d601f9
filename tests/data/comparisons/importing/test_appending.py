"""Appending: nothing twice, never a half, and on after a kill."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import InputError
from data.comparisons import collection
from data.comparisons.collection import rankings, read_collection
from data.comparisons.importing.appending import append_rankings, appending
from data.comparisons.ranking import Ranking

Contents = Callable[[Path], dict[str, str]]


class Killed(BaseException):
    """What no handler of errors catches, as little as SIGKILL."""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "SHARD_ROWS", 3)


@pytest.fixture
def records(make: Callable[..., Ranking]) -> list[Ranking]:
    return [make(prompt=f"prompt {i}") for i in range(10)]


def add(records: list[Ranking], folder: Path, command: Any = "import") -> int:
    """Adds from the last checkpoint on; returns where that was."""
    with appending(folder, command) as into:
        start = into.position
        for position in [] if into.finished else range(start, len(records)):
            if into.shards.full:
                into.checkpoint(position, {"seen": position})
            into.add(records[position])
    return start


def test_only_what_is_new_is_added(tmp_path: Path, records: list[Ranking], contents: Contents) -> None:
    folder = tmp_path / "c"
    assert append_rankings(records[:4], folder) == 4
    before = contents(folder)
    assert append_rankings(records[:4], folder) == 0
    assert contents(tmp_path) == {f"c/{name}": digest for name, digest in before.items()}
    assert append_rankings([*records, *records], folder) == 6
    assert list(rankings(read_collection(folder))) == records
    after = contents(folder)
    assert {n: after[n] for n in before if n != "state.json"} == {n: h for n, h in before.items() if n != "state.json"}
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_the_outcome_of_each_ranking(tmp_path: Path, records: list[Ranking]) -> None:
    append_rankings(records[:1], tmp_path / "c")
    with appending(tmp_path / "c") as into:
        added = [into.add(records[i]) for i in (0, 1, 1, 2, 3, 4)]
        into.checkpoint(6, None)
        added += [into.add(records[i]) for i in (0, 1, 5)]
    assert added == ["already_there", "kept", "repeated", "kept", "kept", "kept", "already_there", "repeated", "kept"]


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, at_each: Callable[[], None]) -> Callable[[], int]:
    """Ends the process, as it were, instead of its `step`-th move of a file or folder; returns a counter of moves."""
    move, count = os.replace, 0

    def replace(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == step:
            raise Killed
        move(*arguments)
        at_each()

    monkeypatch.setattr(os, "replace", replace)
    return lambda: count


@pytest.mark.parametrize("base", [0, 4])
def test_an_import_killed_at_any_step_is_completed_by_the_same_command(
    tmp_path: Path, records: list[Ranking], base: int, contents: Contents
) -> None:
    def start(folder: Path) -> Path:
        if base:
            append_rankings(records[:base], folder)
        return folder

    add(records, start(tmp_path / "whole"))
    whole, step, killed = contents(tmp_path / "whole"), 0, True
    while killed:
        step += 1
        folder = start(tmp_path / f"{step}" / "c")

        def check(folder: Path = folder) -> None:
            """A reader finds the old collection or the new one."""
            if folder.exists():
                assert len(read_collection(folder)) in {base, len(records)} - {0}

        with pytest.MonkeyPatch.context() as patch:
            moves = killed_at(step, patch, check)
            try:
                add(records, folder)
            except Killed:
                check()
            killed = moves() >= step
        resumed = add(records, folder)
        assert contents(folder) == whole, step
        assert list(rankings(read_collection(folder))) == records
        assert [p.name for p in folder.parent.iterdir()] == ["c"]
        if step == 5 and not base:  # after shard 0, its journal and shard 1
            assert resumed == 6
    assert step > 8


def test_finished_shards_are_not_written_again(tmp_path: Path, records: list[Ranking]) -> None:
    def stopping() -> Iterator[Ranking]:
        yield from records[:8]
        raise Killed

    with pytest.raises(Killed), appending(tmp_path / "c", "import") as into:
        for position, record in enumerate(stopping()):
            if into.shards.full:
                into.checkpoint(position, {"seen": position})
            into.add(record)
    shard = tmp_path / ".c.import" / "shard-00001.arrow"
    inode = shard.stat().st_ino
    with appending(tmp_path / "c", "import") as into:
        assert (into.position, into.notes, into.shards.count) == (6, {"seen": 6}, 6)
        assert into.add(records[2]) == "repeated"
        into.add(records[6])
    assert (tmp_path / "c" / shard.name).stat().st_ino == inode
    assert list(rankings(read_collection(tmp_path / "c"))) == records[:7]


@pytest.mark.parametrize("change", ["command", "collection"])
def test_another_import_begins_anew(tmp_path: Path, records: list[Ranking], change: str) -> None:
    append_rankings(records[:1], tmp_path / "c")
    with pytest.raises(Killed), appending(tmp_path / "c", "import") as into:
        into.add(records[5])
        into.checkpoint(1, None)
        raise Killed
    if change == "collection":
        append_rankings(records[:2], tmp_path / "other")
        shutil.rmtree(tmp_path / "c")
        (tmp_path / "other").rename(tmp_path / "c")
    with appending(tmp_path / "c", "other" if change == "command" else "import") as into:
        assert into.position == 0
        into.add(records[9])
    assert records[5] not in list(rankings(read_collection(tmp_path / "c")))
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_an_error_of_the_input_leaves_everything_as_it_was(
    tmp_path: Path, records: list[Ranking], contents: Contents
) -> None:
    append_rankings(records[:1], tmp_path / "c")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="wrong"), appending(tmp_path / "c", "import") as into:
        into.add(records[5])
        into.checkpoint(1, None)
        raise InputError("wrong")
    assert contents(tmp_path) == before
    with pytest.raises(InputError, match="no ranking to store"):
        append_rankings([], tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_one_import_at_a_time(tmp_path: Path, records: list[Ranking]) -> None:
    with appending(tmp_path / "c") as into:
        with pytest.raises(InputError, match=f"process {os.getpid()} is importing into it"):
            append_rankings(records, tmp_path / "c")
        append_rankings(records, tmp_path / "d")
        into.add(records[0])
    assert append_rankings(records, tmp_path / "c") == 9


def test_other_folders_are_not_touched(tmp_path: Path, records: list[Ranking], contents: Contents) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "precious.txt").write_text("text")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="no comparison collection"):
        append_rankings(records, tmp_path / "c")
    assert contents(tmp_path) == before
    (tmp_path / "empty").mkdir()
    assert append_rankings(records, tmp_path / "empty") == 10
