"""Encoded sets: pairs as token ids, ready to batch."""

import math
import tempfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from tokenizers import Tokenizer

from core.errors import InputError
from data.arrow import chunks, read_split, token_counts
from data.encoding_config import EncodingConfig
from data.splits import SPLITS
from data.tokenizer import END, encode

_FEATURES = datasets.Features(
    {"source": datasets.List(datasets.Value("int32")), "target": datasets.List(datasets.Value("int32"))}
)


def write_encoded(corpus: Path, tokenizer: Tokenizer, config: EncodingConfig, folder: Path) -> dict[str, Any]:
    """Encodes every split of `corpus` into `folder` (columns source, target: token ids, without special tokens).

    Returns, for each split, the `pairs` in it, its `target_tokens`, and the pairs that were `dropped` (a side too long, or both
    empty) or `truncated`. `unigram_perplexity` is that of a unigram model of the training targets on the validation targets: a
    model reaches it that knows how frequent tokens are and nothing else.

    Raises:
        InputError: a split has no pair left.
    """
    sides, truncate = ("source", "target"), config.overlong == "truncate"
    summary: dict[str, Any] = {}
    counts: dict[str, np.ndarray] = {}
    for name in SPLITS:
        rows = read_split(corpus, name)
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            encoded = rows.map(
                lambda batch: {side: encode(tokenizer, batch[side]) for side in sides},
                batched=True,
                remove_columns=rows.column_names,
                features=_FEATURES,
                cache_file_name=f"{cache}/encoded.arrow",
            )
            lengths = np.maximum(token_counts(encoded, "source"), token_counts(encoded, "target"))
            too_long = lengths > config.max_length
            mask = (lengths > 0) & (truncate | ~too_long)
            if not mask.any():
                raise InputError(
                    f"encoding: no pair of '{name}' has 1 to {config.max_length} tokens a side. "
                    "Raise encoding.max_length in params.yaml, or set encoding.overlong to truncate."
                )
            encoded = encoded.select(np.flatnonzero(mask))
            if truncate:
                encoded = encoded.map(
                    lambda batch: {side: [tokens[: config.max_length] for tokens in batch[side]] for side in sides},
                    batched=True,
                    features=_FEATURES,
                    cache_file_name=f"{cache}/truncated.arrow",
                )
            encoded.save_to_disk(folder / name)
        counts[name] = token_frequencies(read_split(folder, name), "target", tokenizer.get_vocab_size())
        summary[name] = {
            "pairs": int(mask.sum()),
            "dropped": int((~mask).sum()),
            "truncated": int((mask & too_long).sum()),
            "target_tokens": int(counts[name].sum()),
        }
    summary["unigram_perplexity"] = unigram_perplexity(counts["train"], counts["validation"])
    return summary


def token_frequencies(rows: datasets.Dataset, column: str, vocab_size: int) -> np.ndarray:
    """(vocab_size,) how often each token is in the column, with one end token for each row."""
    total = np.zeros(vocab_size, np.int64)
    for chunk in chunks(rows, column):
        total += np.bincount(chunk.flatten().to_numpy(), minlength=vocab_size)
    total[END] += len(rows)
    return total


def unigram_perplexity(train: np.ndarray, validation: np.ndarray) -> float:
    """Perplexity of the counts `validation` under the add-one-smoothed frequencies of `train`."""
    log_p = np.log((train + 1) / (train + 1).sum())
    return math.exp(-float((validation * log_p).sum() / validation.sum()))
