"""What a run reads from outside the project: files and folders, data sets and models of the hub, packages that carry data.

A reference is a path, `hub:datasets/OWNER/NAME`, `hub:models/OWNER/NAME` or `package:NAME`.
"""

import contextlib
import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core.errors import InputError
from core.folders import file_hash, finished_file
from data import mirror

HUB, PACKAGE = "hub:", "package:"


class Fingerprints:
    """Says of each reference what was there: the hash of a file's content, the commit of a hub repository, the version of a package.

    A file is hashed once: its hash is kept in the file `cache`, by the size, time, inode and path by which it is recognised.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._known: dict[str, str] = {}
        self._used: dict[str, str] = {}
        if cache.is_file():
            with contextlib.suppress(TypeError, ValueError):  # a broken cache: everything is hashed again
                self._known = dict(json.loads(cache.read_text(encoding="utf-8")))

    def of(self, references: Iterable[str]) -> dict[str, Any]:
        """The fingerprint of each reference; of a folder those of its files, by name.

        Raises:
            InputError: there is no such file, hub repository or package.
        """
        return {_label(reference): self._one(reference) for reference in references}

    def save(self) -> None:
        """Writes the cache, with what was asked for."""
        with finished_file(self.cache) as partial:
            partial.write_text(json.dumps(self._used), encoding="utf-8")

    def _one(self, reference: str) -> Any:
        if reference.startswith(HUB):
            return _revision(reference.removeprefix(HUB))
        if reference.startswith(PACKAGE):
            return _version(reference.removeprefix(PACKAGE))
        path = Path(reference)
        if path.is_dir():
            return {str(p.relative_to(path)): self._file(p) for p in sorted(path.rglob("*")) if p.is_file()}
        if not path.is_file():
            raise InputError(f"{path}: no such file or folder, but params.yaml names it.")
        return self._file(path)

    def _file(self, path: Path) -> str:
        facts = path.stat()
        key = f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino} {path.resolve()}"
        self._used[key] = self._known.get(key) or file_hash(path)
        return self._used[key]


def _label(reference: str) -> str:
    """A path inside the data mirror as `mirror/...`: the mirror is in another place on another machine."""
    base = mirror.root()
    if base and Path(reference).is_relative_to(base):
        return f"mirror/{Path(reference).relative_to(base)}"
    return reference


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"  # the stage that reads it says how to install it


def _revision(repository: str) -> str | None:
    """The newest commit of a hub repository; where the hub does not answer, that of the copy on this machine."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import RepositoryNotFoundError

    kind, _, name = repository.partition("/")
    try:
        return HfApi().repo_info(name, repo_type=kind.removesuffix("s"), timeout=10).sha
    except RepositoryNotFoundError:
        raise InputError(
            f"{repository}: the Hugging Face hub has no such repository, but params.yaml names it."
        ) from None
    except Exception:  # no network, or whatever else the client raises
        ref = Path(HF_HUB_CACHE) / f"{kind}--{name.replace('/', '--')}" / "refs" / "main"
        return ref.read_text(encoding="utf-8").strip() if ref.is_file() else None
