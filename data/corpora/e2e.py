"""The E2E NLG Challenge (Novikova et al. 2017): restaurant descriptions from meaning representations, about 8 for each."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from typing import Literal

from core.errors import InputError
from data import mirror
from data.corpora import CorpusConfig, Pair, hub

HUB = "tuetschek/e2e_nlg"
FILES = {"train": "trainset.csv.gz", "validation": "devset.csv.gz", "test": "testset_w_refs.csv.gz"}


class Config(CorpusConfig):
    """Settings of the corpus `e2e`."""

    name: Literal["e2e"]
    """The E2E NLG Challenge: restaurant descriptions from meaning representations."""

    @property
    def official(self) -> frozenset[str]:
        return frozenset({"validation", "test"})


def outside(config: CorpusConfig) -> list[str]:
    """The three files of the mirror, else the hub's data set."""
    folder = mirror.folder("e2e")
    return [str(folder / name) for name in FILES.values()] if folder else [f"hub:datasets/{HUB}"]


def pairs(config: CorpusConfig) -> Iterator[Pair]:
    """Pairs (meaning representation, text) with their official splits; the document is the meaning representation."""
    folder = mirror.folder("e2e")
    if folder is None:
        for pair in hub.official_pairs("e2e", HUB, "meaning_representation", "human_reference"):
            yield pair._replace(document=pair.source)
        return
    for split, name in FILES.items():
        path = folder / name
        line = 0
        try:
            with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as stream:
                rows = csv.DictReader(stream)
                if not {"mr", "ref"} <= set(rows.fieldnames or []):
                    raise InputError(f"{path}:1: columns 'mr' and 'ref' expected, found {rows.fieldnames}.")
                for row in rows:
                    line = rows.line_num
                    if not row["mr"] or not row["ref"]:
                        raise InputError(f"{path}:{line}: empty 'mr' or 'ref'.")
                    yield Pair(row["mr"], row["mr"], row["ref"], split)
        except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
            raise InputError(f"{path}: broken after line {line} ({error}). Fetch the file again.") from None
