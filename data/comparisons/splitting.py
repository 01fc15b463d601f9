"""Train, validation and test parts of a comparison collection, by prompt."""

import hashlib

import datasets
import numpy as np

PARTS = ("train", "validation", "test")


def split_by_prompt(rows: datasets.Dataset, validation: float, test: float) -> dict[str, datasets.Dataset]:
    """All rankings of a prompt go into one part, by a hash of its normalised text: case, punctuation and spaces do not count."""
    shares = np.array([_share(prompt) for prompt in rows["prompt"]])
    bounds = {"test": (0.0, test), "validation": (test, test + validation), "train": (test + validation, 1.0)}
    return {
        part: rows.select(np.flatnonzero((shares >= low) & (shares < high))) for part, (low, high) in bounds.items()
    }


def _share(prompt: str) -> float:
    normalised = " ".join("".join(c if c.isalnum() else " " for c in prompt.lower()).split())
    return int.from_bytes(hashlib.blake2b(normalised.encode(), digest_size=4).digest(), "big") / 2**32
