"""Adding rankings to a collection so that a reader never sees half an import, and a killed import can be taken up again."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from core.errors import InputError
from core.folders import finished_file
from data.comparisons.collection import Added, Shards, State, describe, read_keys
from data.comparisons.ranking import Ranking

_LOCK = "lock"
_JOURNAL = "journal.json"


def append_rankings(rankings: Iterable[Ranking], folder: Path) -> int:
    """Adds those rankings that the collection in `folder`, which may not exist yet, does not hold. Returns their number."""
    with appending(folder) as into:
        for position, record in enumerate(rankings):
            if into.shards.full:
                into.checkpoint(position, None)
            into.add(record)
    return into.shards.count


@contextlib.contextmanager
def appending(folder: Path, command: Any = None) -> Iterator["Appending"]:
    """Rankings added to what is yielded become part of the collection in `folder` when the body ends well.

    Until then they are in the hidden folder `.NAME.import` beside it. An InputError removes that; whatever else ends the
    body leaves it, and the same `command` (plain data; None is never the same) continues from its last checkpoint.

    Raises:
        InputError: another process is adding to the collection; `folder` is something else; nothing was there or added.
    """
    folder = Path(os.path.abspath(folder))
    work = folder.parent / f".{folder.name}.import"
    with _locked(work, folder):
        try:
            into = Appending(folder, work, command)
            yield into
            into.commit()
        except InputError:
            _clear(work)
            raise
        _clear(work)


class Appending:
    """A running addition.

    `position` and `notes` are those of the last checkpoint of the same command when it was killed, else 0 and None; `finished`
    tells that nothing is to be added any more.
    """

    def __init__(self, folder: Path, work: Path, command: Any) -> None:
        self.folder, self.work, self.command = folder, work, command
        self.base = State.of(folder)
        keys = [read_keys(folder / name) for name in self.base.names]
        self.shards = Shards(work, len(self.base.names), np.concatenate(keys) if keys else None)
        self.position = 0
        self.notes: Any = None
        self.finished = False
        journal = self._journal()
        if journal is None:
            _clear(work, keep={_LOCK})
            return
        self.position, self.notes, self.finished = journal["position"], journal["notes"], journal["finished"]
        if self.finished:  # killed while the shards moved into place
            self.shards.names = journal["shards"]
        else:
            self.shards.take_over(journal["shards"])

    def add(self, record: Ranking) -> Added:
        """Adds a ranking if it is new; says what it was."""
        return self.shards.add(record)

    def checkpoint(self, position: int, notes: Any, finished: bool = False) -> None:
        """Closes the shard; a later process with the same command starts with `position` and `notes`."""
        self.shards.close()
        self.finished = finished
        values = {
            "command": self.command, "base": self.base.fingerprint, "shards": self.shards.names,
            "position": position, "notes": notes, "finished": finished,
        }  # fmt: skip
        with finished_file(self.work / _JOURNAL) as partial:
            partial.write_text(json.dumps(values), encoding="utf-8")

    def commit(self) -> None:
        """Moves the shards into the collection and, when all are there, lists them in its `state.json`."""
        if not self.finished:
            self.checkpoint(0, None, finished=True)
        if not self.shards.names:
            if not self.base.names:
                raise InputError("there is no ranking to store.")
            return
        target = self.folder if self.base.names else self.work / "collection"
        target.mkdir(exist_ok=True)
        for name in self.shards.names:
            with contextlib.suppress(FileNotFoundError):  # moved before the process was killed
                os.replace(self.work / name, target / name)
        describe(target, self.shards.names, self.base)
        if target != self.folder:
            os.replace(target, self.folder)
        _sync(self.folder.parent)

    def _journal(self) -> Any:
        """The journal of the same command on the same collection, or None."""
        try:
            journal = json.loads((self.work / _JOURNAL).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        same = journal["command"] == self.command and journal["base"] == self.base.fingerprint
        return journal if same and self.command is not None else None


@contextlib.contextmanager
def _locked(work: Path, folder: Path) -> Iterator[None]:
    """Holds the lock of a collection; it lies in the working folder and goes with it."""
    lock = _open_lock(work)
    try:
        _take(lock, folder)
        while not os.fstat(lock.fileno()).st_nlink:  # its last holder has removed it meanwhile
            lock.close()
            lock = _open_lock(work)
            _take(lock, folder)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
    finally:
        lock.close()


def _take(lock: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise InputError(
            f"{folder}: process {lock.read() or '?'} is importing into it. Wait until it has ended, then import again."
        ) from None


def _open_lock(work: Path) -> IO[str]:
    while True:
        work.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed between these two lines
            return open(work / _LOCK, "a+", encoding="utf-8")


def _clear(work: Path, keep: frozenset[str] | set[str] = frozenset()) -> None:
    """Removes the working folder, the lock last: whoever comes then finds nothing that is ours."""
    for path in sorted(work.iterdir(), key=lambda p: p.name == _LOCK):
        if path.name not in keep:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with contextlib.suppress(OSError):  # not empty: someone else has begun
        work.rmdir()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
