"""A way to look at folders."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def contents() -> Callable[[Path], dict[str, str]]:
    """Names and hashes of all files below a folder, hidden ones too."""
    return lambda folder: {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }
