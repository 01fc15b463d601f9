"""The folder of a collection."""

from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from core.errors import InputError
from data.comparisons import collection
from data.comparisons.collection import rankings, read_collection
from data.comparisons.importing.appending import append_rankings
from data.comparisons.ranking import Ranking, content_key


def test_storing_loses_nothing(tmp_path: Path, make: Callable[..., Ranking]) -> None:
    records = [
        make(reference="r", systems=(("s1",), ("s2", "s3"), ()), ranks=(1, None, 2), time="2024-05-06", id="1"),
        make(prompt="<b>ü</b>", ranks=(3, 1, 2), weight=0.1),
        make(messages=[{"role": "user", "content": "hi"}]),
        make(responses=["x" * 1_000_000, "b", "c"]),
    ]
    assert append_rankings(records, tmp_path / "c") == 4
    rows = read_collection(tmp_path / "c")
    assert list(rankings(rows)) == records
    assert list(rows["key"]) == [content_key(r) for r in records]
    assert rows[0]["ranks"] == [1, None, 2]


def test_datasets_reads_it_by_itself(tmp_path: Path, make: Callable[..., Ranking]) -> None:
    append_rankings([make()], tmp_path / "c")
    rows = datasets.load_from_disk(str(tmp_path / "c"))
    assert rows.features == collection.FEATURES
    assert rows.column_names == list(collection.FEATURES)
    rows.save_to_disk(str(tmp_path / "d"))  # and what it writes is a collection again
    assert list(rankings(read_collection(tmp_path / "d"))) == [make()]


def test_shards_and_batches_are_bounded(
    tmp_path: Path, make: Callable[..., Ranking], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "SHARD_ROWS", 4)
    monkeypatch.setattr(collection, "SHARD_CHARACTERS", 1000)
    monkeypatch.setattr(collection, "_BATCH_ROWS", 3)
    records = [make(prompt=f"p{i}") for i in range(9)] + [make(prompt=f"{i}" * 999) for i in range(3)]
    append_rankings(records, tmp_path / "c")
    assert list(rankings(read_collection(tmp_path / "c"))) == records
    assert sorted(p.name for p in (tmp_path / "c").glob("*.arrow")) == [f"shard-{i:05d}.arrow" for i in range(5)]


def test_equal_rankings_are_stored_once(tmp_path: Path, make: Callable[..., Ranking]) -> None:
    assert append_rankings([make(), make(origin="other"), make(labeler="bob")], tmp_path / "c") == 2


def test_the_same_rankings_make_the_same_bytes(
    tmp_path: Path, make: Callable[..., Ranking], contents: Callable[[Path], dict[str, str]]
) -> None:
    for name, prompt in (("c", "p"), ("d", "p"), ("e", "q")):
        append_rankings([make(prompt=prompt)], tmp_path / name)
    assert contents(tmp_path / "c") == contents(tmp_path / "d")
    assert {n for n, h in contents(tmp_path / "e").items() if h != contents(tmp_path / "c")[n]} == {
        "shard-00000.arrow", "state.json",  # the fingerprint: what `datasets` caches under it is of these rows
    }  # fmt: skip


def test_what_is_no_collection_says_so(tmp_path: Path, make: Callable[..., Ranking]) -> None:
    with pytest.raises(InputError, match="no comparison collection"):
        read_collection(tmp_path / "none")
    datasets.Dataset.from_dict({"prompt": ["p"]}).save_to_disk(str(tmp_path / "other"))
    with pytest.raises(InputError, match=r"not a comparison collection: it lacks .*ranks"):
        read_collection(tmp_path / "other")
    append_rankings([make()], tmp_path / "c")
    with pytest.raises(InputError, match="no ranking to store"):
        append_rankings([], tmp_path / "none")
    assert len(read_collection(tmp_path / "c")) == 1
