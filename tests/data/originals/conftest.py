"""Public originals of a few lines, in their published form, on a server of this machine."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data.originals.table import ORIGINALS, File

Publish = Callable[..., tuple[File, ...]]


@pytest.fixture
def publish(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Puts files on the server and into the table, in the place of a data set's real ones."""
    folder, address = served

    def put(name: str, contents: dict[str, bytes], unchecked: tuple[str, ...] = ()) -> tuple[File, ...]:
        files = []
        for file, content in contents.items():
            (folder / file).write_bytes(content)
            size, sha256 = len(content), hashlib.sha256(content).hexdigest()
            files.append(File(f"{address}/{file}", *((None, None) if file in unchecked else (size, sha256))))
        monkeypatch.setitem(ORIGINALS, name, replace(ORIGINALS[name], files=tuple(files), contents={}))
        return tuple(files)

    return put
