"""Gzip files whose bytes depend on their content alone, not on the time or the file's name."""

import gzip
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast


@contextmanager
def gzipped(path: Path) -> Iterator[BinaryIO]:
    """Opens `path` to write what is packed there."""
    with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as stream:
        yield cast(BinaryIO, stream)


def content_sha256(path: Path) -> str:
    """SHA-256 of the unpacked content."""
    with gzip.open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
