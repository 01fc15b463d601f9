"""Encoded sets: pairs as token ids, ready to batch."""

import math
import tempfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from core.config import Config
from core.errors import InputError
from data.arrow import chunks, read_split, token_counts
from data.splits import SPLITS
from data.tokenizer import END, encode

_FEATURES = datasets.Features(
    {"source": datasets.List(datasets.Value("int32")), "target": datasets.List(datasets.Value("int32"))}
)


class EncodingConfig(Config):
    """Settings of the stage `encoding`."""

    max_length: int = Field(default=64, ge=1)
    """Tokens of a source and of a target, without special tokens. Pairs with a longer side are left out, and counted."""


def write_encoded(corpus: Path, tokenizer: Tokenizer, settings: EncodingConfig, folder: Path) -> dict[str, Any]:
    """Encodes every split of `corpus` into `folder` (columns source, target: token ids, without special tokens).

    Returns counts per split and the perplexity on the validation targets of a unigram model of the training targets: what
    a model reaches that knows how frequent tokens are and nothing else.
    """
    summary: dict[str, Any] = {}
    counts: dict[str, np.ndarray] = {}
    for name in SPLITS:
        rows = read_split(corpus, name)
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            encoded = rows.map(
                lambda batch: {side: encode(tokenizer, batch[side]) for side in ("source", "target")},
                batched=True,
                remove_columns=rows.column_names,
                features=_FEATURES,
                cache_file_name=f"{cache}/encoded.arrow",
            )
            lengths = np.maximum(token_counts(encoded, "source"), token_counts(encoded, "target"))
            short = np.flatnonzero((lengths <= settings.max_length) & (lengths > 0))
            if not len(short):
                raise InputError(
                    f"encoding: no pair of '{name}' has at most {settings.max_length} tokens. Raise encoding.max_length in params.yaml."
                )
            encoded.select(short).save_to_disk(folder / name)
        kept = read_split(folder, name)
        counts[name] = token_frequencies(kept, "target", tokenizer.get_vocab_size())
        summary[name] = {
            "pairs": len(kept),
            "too_long": len(rows) - len(kept),
            "target_tokens": int(counts[name].sum()),
        }
    summary["unigram_perplexity"] = unigram_perplexity(counts["train"], counts["validation"])
    return summary


def token_frequencies(rows: datasets.Dataset, column: str, vocabulary: int) -> np.ndarray:
    """(vocabulary,) how often each token stands in the column, with one end token for each row."""
    total = np.zeros(vocabulary, np.int64)
    for chunk in chunks(rows, column):
        total += np.bincount(chunk.flatten().to_numpy(), minlength=vocabulary)
    total[END] += len(rows)
    return total


def unigram_perplexity(train: np.ndarray, validation: np.ndarray) -> float:
    """Perplexity of the counts `validation` under the add-one-smoothed frequencies of `train`."""
    log_p = np.log((train + 1) / (train + 1).sum())
    return math.exp(-float((validation * log_p).sum() / validation.sum()))
