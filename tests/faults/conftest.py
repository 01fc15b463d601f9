"""Faults are made for real: files are damaged, disks are full, processes are killed."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stages.training.conftest import stage

__all__ = ["stage"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB. Only root can make one."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]).returncode:
        pytest.skip("a file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
