"""A finished folder or file appears at once, or not at all."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def finished_folder(target: Path, beside: Path | None = None) -> Iterator[Path]:
    """Yields an empty folder to write into; on success it becomes `target`, on an error `target` stays what it was.

    The unfinished folder is `.PARENT.NAME.partial`, for a `target` PARENT/NAME, beside it or inside the folder `beside`, if that is
    on the same file system. When it is finished, the folder that it replaces is renamed to `.PARENT.NAME.replaced`, and removed after that.

    A process that is killed leaves either the old folder or the new one as `target`. Between two renames, when there is none, the old
    one is the `.replaced`. The next attempt puts it back, and removes what was left behind.

    All that is in the folder can be read by whom the umask lets read: safetensors and `tempfile` make files and folders for their
    owner alone.
    """
    target = Path(target)
    place = Path(beside or target.parent)
    for folder in (target.parent, place):
        folder.mkdir(parents=True, exist_ok=True)
    if place.stat().st_dev != target.parent.stat().st_dev:  # a folder cannot be renamed to another file system
        place = target.parent
    partial, replaced = (place / f".{target.parent.name}.{target.name}.{state}" for state in ("partial", "replaced"))
    _put_back(replaced, target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    mode = stat.S_IMODE(partial.stat().st_mode)
    try:
        yield partial
        for path in partial.rglob("*"):
            if not path.is_symlink():
                path.chmod(mode if path.is_dir() else mode & 0o666)
        if target.is_dir():
            os.replace(target, replaced)
        os.replace(partial, target)
    finally:
        _put_back(replaced, target)
        shutil.rmtree(partial, ignore_errors=True)


def _put_back(replaced: Path, target: Path) -> None:
    """Makes the folder `replaced` the `target` again if there is no new one; removes it if there is."""
    if replaced.exists() and not target.exists():
        os.replace(replaced, target)
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def finished_file(target: Path) -> Iterator[Path]:
    """As `finished_folder`, for one file: yields the path to write, synced and moved to `target` on success."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.partial"
    partial.unlink(missing_ok=True)
    partial.touch()  # only for the mode that the umask gives a new file
    mode = stat.S_IMODE(partial.stat().st_mode)
    partial.unlink()
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        partial.chmod(mode)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def content_hash(*paths: Path) -> str:
    """Hex digest of the contents and relative names of files and folders."""
    digest = hashlib.blake2b(digest_size=16)
    for path in map(Path, paths):
        files = (
            sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
            if path.is_dir()
            else [path]
        )
        for file in files:
            digest.update(f"{file.relative_to(path.parent)} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def file_hash(*paths: Path) -> str:
    """Hex digest (BLAKE2b, 16 bytes) of a file's content, or of those of several, one after another."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        with open(path, "rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()
