"""A comparison collection on disk: an Arrow folder of rankings that `datasets.load_from_disk` reads.

It has shards (`shard-*.arrow`, Arrow streams), `state.json`, which lists them, and `dataset_info.json`. What is not listed is not in it.
"""

import hashlib
import json
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa

from core.errors import InputError
from core.folders import file_hash, finished_file
from core.format_1 import FORMAT, format_of
from data.comparisons.ranking import Ranking, content_key

SHARD_ROWS = 50_000
SHARD_CHARACTERS = 500_000_000
_BATCH_ROWS = 1000
_BATCH_CHARACTERS = 16_000_000

_TEXT = datasets.Value("string")
FEATURES = datasets.Features(
    {
        "messages": datasets.List({"role": _TEXT, "content": _TEXT}),
        "prompt": _TEXT,
        "responses": datasets.List(_TEXT),
        "ranks": datasets.List(datasets.Value("int32")),
        "labeler": _TEXT,
        "origin": _TEXT,
        "reference": _TEXT,
        "systems": datasets.List(datasets.List(_TEXT)),
        "time": _TEXT,
        "weight": datasets.Value("float64"),
        "id": _TEXT,
        "key": datasets.Value("uint64"),  # what tells rankings apart: see `content_key`
    }
)
_FIELDS = [name for name in FEATURES if name != "key"]

Added = Literal["kept", "already_there", "repeated"]


def read_collection(folder: Path) -> datasets.Dataset:
    """The rows of a collection. Raises InputError when `folder` holds none."""
    try:
        rows = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise InputError(
            f"{folder}: no comparison collection ({error}). Make one: gradus comparisons import FILE --output {folder}"
        ) from None
    missing = set(FEATURES) - set(rows.column_names)
    if missing:
        raise InputError(
            f"{folder}: not a comparison collection: it lacks {', '.join(sorted(missing))}. Import the rankings again."
        )
    state = folder / "state.json"
    format_of(json.loads(state.read_text(encoding="utf-8")), str(state))  # both formats have the same columns
    return rows


def rankings(rows: datasets.Dataset) -> Iterator[Ranking]:
    """The rows as records, in order."""
    for row in rows.select_columns(_FIELDS):
        yield Ranking.model_validate(row)


class State:
    """What `state.json` says: the names of the shards and a fingerprint of their contents; both empty if there is no collection yet."""

    def __init__(self, names: Sequence[str] = (), fingerprint: str = "") -> None:
        self.names, self.fingerprint = list(names), fingerprint

    @classmethod
    def of(cls, folder: Path) -> "State":
        """The state of the collection in `folder`, empty when there is no such folder. Raises InputError when it is something else."""
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return cls()
        read_collection(folder)
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return cls([file["filename"] for file in state["_data_files"]], state["_fingerprint"])


def describe(folder: Path, new: Sequence[str], base: State) -> None:
    """Makes the shards `new`, which are in the folder, part of its collection: from here on readers see them."""
    digest = hashlib.blake2b(base.fingerprint.encode(), digest_size=8)
    for name in new:
        digest.update(file_hash(folder / name).encode())
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in (*base.names, *new)],
        "_fingerprint": digest.hexdigest(),
        "format": FORMAT,  # of the columns; `datasets` passes it over
        "_format_columns": None, "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None,
    }  # fmt: skip
    info = {"citation": "", "description": "", "features": FEATURES.to_dict(), "homepage": "", "license": ""}
    for name, values in (("dataset_info.json", info), ("state.json", state)):
        with finished_file(folder / name) as partial:
            partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


class Shards:
    """Writes rankings that are new into shards in a folder; a shard has its name only when it is complete and synced."""

    def __init__(self, folder: Path, first: int = 0, stored_before: np.ndarray | None = None) -> None:
        """`first` is the number of the first shard; rankings whose key is in `stored_before` are not stored again."""
        self.folder, self.first = folder, first
        self.names: list[str] = []
        self.count = 0
        self._stored_before = _sorted(stored_before)
        self._stored = _sorted(None)  # keys of the closed shards; 8 bytes each
        self._recent: set[int] = set()  # and of the open one
        self._open: _Shard | None = None

    @property
    def full(self) -> bool:
        """Whether it is time to close the shard."""
        shard = self._open
        return shard is not None and (shard.rows >= SHARD_ROWS or shard.characters >= SHARD_CHARACTERS)

    def add(self, record: Ranking) -> Added:
        """Stores a ranking unless the collection has it ("already_there") or it came before ("repeated")."""
        key = content_key(record)
        if key in self._recent or _holds(self._stored, key):
            return "repeated"
        if _holds(self._stored_before, key):
            return "already_there"
        if self._open is None:
            self._open = _Shard(self.folder / f"shard-{self.first + len(self.names):05d}.arrow")
        self._open.add(record, key)
        self._recent.add(key)
        self.count += 1
        return "kept"

    def close(self) -> None:
        """Finishes the open shard, if there is one."""
        if self._open is None:
            return
        self._open.close()
        self.names.append(self._open.path.name)
        self._remember(np.fromiter(self._recent, np.uint64, len(self._recent)))
        self._recent.clear()
        self._open = None

    def take_over(self, names: Sequence[str]) -> None:
        """Continues after shards that are in the folder already."""
        for name in names:
            keys = read_keys(self.folder / name)
            self.count += len(keys)
            self.names.append(name)
            self._remember(keys)

    def _remember(self, keys: np.ndarray) -> None:
        self._stored = _sorted(np.concatenate([np.asarray(self._stored, np.uint64), keys]))


class _Shard:
    """One Arrow stream, written batch by batch."""

    def __init__(self, path: Path) -> None:
        self.path, self.partial = path, path.with_suffix(".partial")
        self.rows = self.characters = 0
        self._batch: list[tuple[Ranking, int]] = []
        self._batch_characters = 0
        self._file = open(self.partial, "wb")  # noqa: SIM115 - closed by `close`
        self._stream = pa.ipc.new_stream(self._file, FEATURES.arrow_schema)

    def add(self, record: Ranking, key: int) -> None:
        size = len(record.prompt) + sum(map(len, record.responses))
        self._batch.append((record, key))
        self.rows += 1
        self.characters += size
        self._batch_characters += size
        if len(self._batch) >= _BATCH_ROWS or self._batch_characters >= _BATCH_CHARACTERS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._stream.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self.partial, self.path)

    def _flush(self) -> None:
        if self._batch:
            self._stream.write_batch(_batch(self._batch))
            self._batch, self._batch_characters = [], 0


def _batch(rows: list[tuple[Ranking, int]]) -> pa.RecordBatch:
    columns: dict[str, list[Any]] = {name: [getattr(record, name) for record, _ in rows] for name in _FIELDS}
    columns["messages"] = [m and [message.__dict__ for message in m] for m in columns["messages"]]
    columns["key"] = [key for _, key in rows]
    return pa.RecordBatch.from_pydict(columns, schema=FEATURES.arrow_schema)


def read_keys(path: Path) -> np.ndarray:
    """(rows,) keys of a shard."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        parts = [batch.column("key").to_numpy(zero_copy_only=False).copy() for batch in stream]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _sorted(keys: np.ndarray | None) -> memoryview:
    return np.sort(np.zeros(0, np.uint64) if keys is None else keys.astype(np.uint64)).data


def _holds(keys: memoryview, key: int) -> bool:
    index = bisect_left(keys, key)
    return index < len(keys) and keys[index] == key
