"""Parts of a comparison collection: train, validation and test by prompt, folds by labeler."""

import hashlib
import unicodedata
from collections import Counter

import datasets
import numpy as np

from core.errors import InputError
from data.comparisons.connected import Connected

PARTS = ("train", "validation", "test")


def split_by_prompt(rows: datasets.Dataset, validation: float, test: float) -> dict[str, datasets.Dataset]:
    """All rankings that share a prompt or a reference, directly or through others, go into one part, by a hash of their texts.

    Texts are the same if they are so without case, punctuation, spaces and ways to encode a character. (One reference may belong to several
    prompts: a sentence in several languages.)
    """
    prompts, references = ([_normalised(text or "") for text in rows[name]] for name in ("prompt", "reference"))
    connected = Connected[str]()
    first_prompt: dict[str, str] = {}  # of each reference
    for prompt, reference in zip(prompts, references, strict=True):
        if reference:
            connected.connect(prompt, first_prompt.setdefault(reference, prompt))
    shares = np.array([_share(connected.part(prompt)) for prompt in prompts])
    bounds = {"test": (0.0, test), "validation": (test, test + validation), "train": (test + validation, 1.0)}
    return {
        part: rows.select(np.flatnonzero((shares >= low) & (shares < high))) for part, (low, high) in bounds.items()
    }


def labeler_folds(rows: datasets.Dataset, k: int) -> list[np.ndarray]:
    """Indices of the rows in each of k folds of about equal size; all rankings of a labeler are in one fold.

    The labeler with the most rankings goes first, each into the fold that is smallest by then: always the same folds for the
    same rows, in any order.

    Raises:
        InputError: fewer labelers than folds.
    """
    labelers = list(rows["labeler"])
    counts = Counter(labelers)
    if len(counts) < k:
        raise InputError(f"{k} folds of labelers, but the rankings are by {len(counts)}: {', '.join(sorted(counts))}.")
    sizes = [0] * k
    fold_of: dict[str, int] = {}
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        fold_of[name] = sizes.index(min(sizes))
        sizes[fold_of[name]] += count
    folds = np.array([fold_of[name] for name in labelers])
    return [np.flatnonzero(folds == fold) for fold in range(k)]


def _normalised(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())


def _share(normalised: str) -> float:
    return int.from_bytes(hashlib.blake2b(normalised.encode(), digest_size=4).digest(), "big") / 2**32
