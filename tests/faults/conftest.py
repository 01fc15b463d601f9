"""Faults are made for real: files are damaged, disks are full, processes are killed."""

from tests.stages.training.conftest import stage

__all__ = ["stage"]
