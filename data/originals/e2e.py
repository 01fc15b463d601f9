"""E2E: the mirror has the original CSV files, packed."""

import csv
import shutil
from pathlib import Path

from data.corpora.e2e import FILES
from data.originals.gzipped import gzipped


def convert(originals: Path, folder: Path) -> dict[str, int]:
    """Packs the files into `folder`, and returns how many pairs each split has."""
    counts = {}
    for split, name in FILES.items():
        source = originals / name.removesuffix(".gz")
        with open(source, "rb") as stream, gzipped(folder / name) as target:
            shutil.copyfileobj(stream, target)
        with open(source, encoding="utf-8", newline="") as text:
            counts[split] = sum(1 for _ in csv.DictReader(text))
    return counts
