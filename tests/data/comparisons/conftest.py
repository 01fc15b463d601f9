"""A record that is right, and ways to look at folders."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.comparisons.ranking import Ranking


@pytest.fixture
def good() -> dict[str, Any]:
    return {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 2], "labeler": "ann", "origin": "test"}


@pytest.fixture
def make(good: dict[str, Any]) -> Callable[..., Ranking]:
    """The good record with changes."""
    return lambda **changes: Ranking(**{**good, **changes})


@pytest.fixture
def contents() -> Callable[[Path], dict[str, str]]:
    """Names and hashes of all files below a folder, hidden ones too."""
    return lambda folder: {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }
