"""Memory and time of preparing a corpus as it grows: `python -m benchmarks.corpus_memory [PAIRS ...]`.

The corpus is real verses with a running number, in two text files. Memory is the process' peak of anonymous pages: mapped Arrow
files, which the system can drop at any time, are not in it.
"""

import itertools
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import memory
from core.process_setup import set_up_process
from data import corpora
from data.arrow import read_split
from data.encoding import EncodingConfig, write_encoded
from data.splits import write_splits
from data.tokenizer_training import TokenizerConfig, train_tokenizer

set_up_process()

SIZES = (30_000, 240_000)


def main() -> None:
    """Prints megabytes and pairs per second for each size."""
    sizes = [int(argument) for argument in sys.argv[1:]] or list(SIZES)
    context = multiprocessing.get_context("spawn")
    measures = {}
    for size in sizes:
        with context.Pool(1) as pool:  # a process of its own: its peak is this size's
            measures[str(size)] = pool.apply(measure, (size,))
    print(json.dumps(measures))


def measure(size: int) -> dict[str, float]:
    """Splits and encodes `size` pairs."""
    peak = memory.watched()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = _write(folder, size)
        for part in ("corpus", "encoded"):
            (folder / part).mkdir()
        started = time.monotonic()
        write_splits(
            corpora.corpus_config({"name": "parallel_text", "train_files": files}, "benchmark"), folder / "corpus"
        )
        split = time.monotonic()
        some = read_split(folder / "corpus", "train").select(range(5000))
        tokenizer = train_tokenizer(some["source"], TokenizerConfig())
        trained = time.monotonic()
        write_encoded(folder / "corpus", tokenizer, EncodingConfig(max_length=100), folder / "encoded")
        encoded = time.monotonic()
    return {
        "peak_anonymous_mb": peak[0],
        "split_pairs_per_second": round(size / (split - started)),
        "encoded_pairs_per_second": round(size / (encoded - trained)),
    }


def _write(folder: Path, size: int) -> list[Path]:
    verses = corpora.read_pairs(corpora.corpus_config({"name": "kjv_bbe", "limit": 5000}, "benchmark"))
    files = [folder / "source.txt", folder / "target.txt"]
    with open(files[0], "w", encoding="utf-8") as source, open(files[1], "w", encoding="utf-8") as target:
        for i, pair in enumerate(itertools.islice(itertools.cycle(verses), size)):
            source.write(f"{pair.source} {i}\n")
            target.write(f"{pair.target} {i}\n")
    return files


if __name__ == "__main__":
    main()
