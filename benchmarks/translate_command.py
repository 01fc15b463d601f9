"""`gradus translate` beside the beam search that it runs: `python -m benchmarks.translate_command [--model FOLDER]`, after `make run`.

The test sentences of artifacts/corpus, one a line, through the command's pipes while it stays open; and the same sentences as token ids
through `lightning_modules.decoding.translation.translate`, sorted, in its batches (`search`) and in batches of 64 as in
`benchmarks.translation` (`search_64`).
Beam 5, two threads; the three take turns, starting libraries is not counted. What the command costs beside the search is tokenizing, reading,
writing and seeing 1,024 lines at a time.

Prints one JSON object: the medians of sentences/s, and under `ratio` the command's over each of the others'.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from core.process_setup import set_up_process
from data.arrow import read_split
from data.tokenizer import encode
from lightning_modules.decoding.translation import DecodingConfig, translate
from model_io.translator import load_translator

set_up_process()

BEAM, THREADS, BATCH = 5, 2, 64


def main() -> None:
    """Measures all sides, turn by turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=Path("artifacts/translators/transformer"))
    parser.add_argument(
        "--corpus", type=Path, default=Path("artifacts/corpus"), help="its test sentences are translated"
    )
    parser.add_argument("--turns", type=int, default=3, help="how often each side is measured")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    sentences = [" ".join(text.split()) for text in read_split(arguments.corpus, "test")["source"]]
    model, tokenizer, _ = load_translator(arguments.model)
    config = DecodingConfig(method="beam", beam_size=BEAM)
    tokens = sorted(encode(tokenizer, sentences), key=len)
    command = Command(arguments.model, sentences)

    def search(batch: int) -> float:
        started = time.perf_counter()
        outputs = [h for i in range(0, len(tokens), batch) for h in translate(model, tokens[i : i + batch], config)]
        assert len(outputs) == len(sentences)
        return time.perf_counter() - started

    sides: dict[str, Callable[[], float]] = {
        "command": command.turn,
        "search": partial(search, len(tokens)),
        "search_64": partial(search, BATCH),
    }
    list(translate(model, tokens[:BATCH], config))  # libraries warm up
    turns: list[dict[str, float]] = []
    for _ in range(arguments.turns):
        turns.append({side: len(sentences) / measured() for side, measured in sides.items()})
        print({side: round(rate, 1) for side, rate in turns[-1].items()}, file=sys.stderr, flush=True)
    command.end()
    medians = {side: statistics.median(turn[side] for turn in turns) for side in sides}
    measures: dict[str, Any] = {"sentences": len(sentences), "threads": THREADS}
    measures |= {f"{side}_per_second": round(rate, 1) for side, rate in medians.items()}
    ratio = {side: round(medians["command"] / medians[side], 3) for side in sides if side != "command"}
    print(json.dumps({**measures, "ratio": ratio}))


class Command:
    """A `gradus translate` that waits for lines."""

    def __init__(self, model: Path, sentences: list[str]) -> None:
        command = [sys.executable, "-m", "gradus.cli", "translate", "--model", str(model), "--beam-size", str(BEAM)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.sentences = sentences
        self.turn(64)

    def turn(self, count: int | None = None) -> float:
        """Seconds from the first line in to the last line out."""
        assert self.process.stdout
        lines = self.sentences[:count]
        started = time.perf_counter()
        writer = threading.Thread(target=self._write, args=("".join(f"{line}\n" for line in lines).encode(),))
        writer.start()  # the pipe does not hold them all
        for _ in lines:
            assert self.process.stdout.readline(), "the command has ended"
        writer.join()
        return time.perf_counter() - started

    def _write(self, text: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait() == 0


if __name__ == "__main__":
    main()
