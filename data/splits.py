"""From a corpus to four splits on disk: train, prompts (for responses), validation, test."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from core.errors import InputError
from data.arrow import stored_rows
from data.corpora import CorpusConfig, Pair, read_pairs

SPLITS = ("train", "prompts", "validation", "test")


def write_splits(corpus: CorpusConfig, folder: Path) -> dict[str, Any]:
    """Writes the corpus' pairs as one Arrow folder per split (columns document, source, target); returns counts.

    Pairs stream to disk, so memory stays flat as a corpus grows (9 bytes a pair are kept). A document lies in one split.
    Training pairs whose source is also in a held-out split are left out. Official splits stay as published: where they
    overlap, the overlap is counted.

    Raises:
        InputError: the corpus cannot be read or leaves a split empty.
    """
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        rows = stored_rows(_rows(corpus), _FEATURES, Path(cache))
        columns = rows.with_format("numpy")
        split, key = (np.asarray(columns[name][:]) for name in ("split", "key"))
        train = split == 0
        held_out = np.isin(split, [SPLITS.index(name) for name in SPLITS[1:] if name not in corpus.official])
        repeated = train & np.isin(key, key[held_out])
        overlap = int((train & ~repeated & np.isin(key, key[~train])).sum())
        split[repeated] = -1
        counts = {}
        for code, name in enumerate(SPLITS):
            chosen = np.flatnonzero(split == code)
            counts[name] = len(chosen)
            if name == "prompts" and not corpus.prompts:
                continue
            if not len(chosen):
                remedy = (
                    f"Raise corpus.{corpus.name}.{name} in params.yaml"
                    if name in SPLITS[1:]
                    else "Lower the held-out shares in params.yaml"
                )
                raise InputError(
                    f"corpus '{corpus.name}': no pair fell into the split '{name}'. {remedy}, or give a larger corpus."
                )
            rows.select(chosen).select_columns(["document", "source", "target"]).save_to_disk(folder / name)
    return {
        "corpus": corpus.name,
        "target_language": corpus.target_language,
        "pairs": counts,
        "repeated_sources_left_out": int(repeated.sum()),
        "official_overlap": overlap,
    }


_FEATURES = datasets.Features(
    {
        "document": datasets.Value("string"),
        "source": datasets.Value("string"),
        "target": datasets.Value("string"),
        "split": datasets.Value("int8"),
        "key": datasets.Value("int64"),
    }
)


def _rows(corpus: CorpusConfig) -> Iterator[dict[str, Any]]:
    empty = True
    for pair in read_pairs(corpus):
        empty = False
        yield {
            "document": pair.document,
            "source": pair.source,
            "target": pair.target,
            "split": SPLITS.index(place(pair, corpus)),
            "key": _hash(" ".join(pair.source.lower().split())),
        }
    if empty:
        raise InputError(f"corpus '{corpus.name}': it holds no pair of non-empty texts.")


def place(pair: Pair, corpus: CorpusConfig) -> str:
    """The split of a pair: the official one if it has one, else by a hash of its document, the same on every machine.

    Prompts for responses, and the splits that the corpus lacks, are taken out of what would be training text.
    """
    if pair.split in corpus.official:
        return str(pair.split)
    position = (_hash(pair.document) % 10_000) / 10_000
    for name in SPLITS[1:]:
        if name not in corpus.official:
            position -= getattr(corpus, name)
            if position < 0:
                return name
    return "train"


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
