"""Training and decoding translators beside JoeyNMT 2.3 and Hugging Face: `GRADUS_DATA=... python -m benchmarks.translation [CASE ...]`.

Multi30k en-de, one joint BPE of 10,000 tokens, the same tokens for all; models of the same sizes with random weights, Adam, clipping,
two threads. Cases are an architecture and `train` or `decode`; the sides of a case, each in a process of its own and
set up before anything is measured, take turns, so that what disturbs the machine hits all of them:

- `gradus`: this project, by the Lightning module, loader and beam search of its stages.
- `joeynmt`: JoeyNMT 2.3.0 in an environment of its own, by its training loop, iterator and beam search.
- `marian`: for the Transformer, a Marian-type model under Hugging Face's `Seq2SeqTrainer`, grouped by length, and its `generate`.

All in float32; on a processor with bf16 (AVX-512 BF16, AMX) `gradus_bf16` and `marian_bf16` as well, with its products of matrices. JoeyNMT
turns half precision off on a CPU.

Training: batches of at most 4,096 padded target cells; target tokens per second, padding not counted. Decoding: beam 5, exactly 20
tokens for each sentence (for `gradus` the last is the end token, which it never leaves out), batches of 64; sentences per second.

Prints one JSON object: for each case and side the median over turns, the peak of resident memory and the number of parameters; under
`ratio` this project's median over JoeyNMT's, and over the faster of Hugging Face's under names that end in `_marian`, in bf16 where the
processor has it; under `ratio_single` the same with all in float32.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import datasets
import torch

from benchmarks import peers
from benchmarks.translation.turns import Worker
from core.errors import InputError
from core.process_setup import set_up_process
from data import corpora, mirror
from data.tokenizer import SPECIAL, encode
from data.tokenizer_training import TokenizerConfig, train_tokenizer
from lightning_modules.training.precision import has_bf16

set_up_process()

THREADS = 2
TURNS = 9
VOCABULARY = 10_000
LONGEST = 64  # tokens of a side; longer pairs are left out for all
SOURCE = 13  # tokens of the sentences to translate: a batch of one length has no padding on any side
BATCHES = 4
COMMON = {
    "vocab_size": VOCABULARY, "batch_tokens": 4096, "learning_rate": 5e-4, "beam_size": 5, "tokens": 20, "sentences": 64,
    "beam_alpha": 1.0, "units": {"train": 4, "decode": 1},
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "transformer": {
        "num_layers": 4,
        "hidden_size": 128,
        "ff_size": 256,
        "num_heads": 4,
        "dropout": 0.1,
        "label_smoothing": 0.1,
    },
    "luong": {"hidden_size": 256, "dropout": 0.2, "label_smoothing": 0.0},
    "bahdanau": {"hidden_size": 256, "dropout": 0.2, "label_smoothing": 0.0},
}
CASES = [f"{name}_{task}" for task in ("train", "decode") for name in SIZES]
LOCK = Path(__file__).with_name("joeynmt.lock")


def main() -> None:
    """Measures all cases, or those named."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.translation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--turns", type=int, default=TURNS, help=f"turns of each side (default {TURNS})")
    parser.add_argument(
        "--profile", action="store_true", help="instead: where this project's time goes, by torch's profiler"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}: choose from {', '.join(CASES)}")
    precisions = ["", "_bf16"] if has_bf16("cpu") else [""]
    with tempfile.TemporaryDirectory() as name:
        prepare(folder := Path(name))
        if arguments.profile:
            for case, precision in itertools.product(arguments.cases, precisions):
                print(f"{case}{precision}", flush=True)
                command = [*side_command(sys.executable, f"gradus{precision}", folder, case), "profile"]
                subprocess.run(command, env=environment(), check=True)
        else:
            print(json.dumps(compare(folder, arguments.cases, arguments.turns, precisions)))


def compare(folder: Path, cases: list[str], turns: int, precisions: list[str]) -> dict[str, Any]:
    """All sides of the cases, and the ratios of their speeds."""
    pythons = {
        "gradus": sys.executable,
        "joeynmt": str(peers.interpreter("joeynmt", LOCK)),
        "marian": sys.executable,
    }
    measures: dict[str, Any] = {"threads": THREADS, "torch": torch.__version__, "turns": turns}
    measures |= {"ratio": {}, "ratio_single": {}}
    for case in cases:
        peer = ["marian"] if case.startswith("transformer") else []
        sides = [side + p for side in ("gradus", *peer) for p in precisions] + ["joeynmt"]
        measures[case] = measure(folder, case, {s: pythons[s.removesuffix("_bf16")] for s in sides}, turns)
        rate = {side: values["per_second"] for side, values in measures[case].items()}
        for ratio, allowed in (("ratio", precisions), ("ratio_single", [""])):
            mine = rate["gradus" + allowed[-1]]
            measures[ratio][case] = round(mine / rate["joeynmt"], 2)
            if peer:
                measures[ratio][f"{case}_marian"] = round(mine / max(rate["marian" + p] for p in allowed), 2)
        print(f"{case}: {measures[case]}", file=sys.stderr, flush=True)
    return measures


def side_command(python: str, side: str, folder: Path, case: str) -> list[str]:
    """What runs a side of a case: SYSTEM or SYSTEM_PRECISION."""
    name, task = case.rsplit("_", 1)
    file = folder / f"{case}.json"
    file.write_text(json.dumps({**COMMON, **SIZES[name], "architecture": name, "folder": str(folder)}))
    system, *precision = side.split("_")
    return [python, "-m", f"benchmarks.translation.{system}_side", str(file), task, *precision]


def environment() -> dict[str, str]:
    """Of every side: the same threads, no GPU."""
    threads = str(THREADS)
    return os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": ""}


def measure(folder: Path, case: str, sides: dict[str, str], turns: int) -> dict[str, Any]:
    """Every side's median speed, peak memory and size. The first turn, in which libraries warm up, is left out."""
    workers = {side: Worker(side_command(python, side, folder, case), environment()) for side, python in sides.items()}
    for worker in workers.values():
        worker.turn()
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(turns):
        for side, worker in workers.items():
            rates[side].append(worker.turn())
        print(
            f"{case}: {', '.join(f'{side} {rate[-1]:,.0f}' for side, rate in rates.items())}",
            file=sys.stderr,
            flush=True,
        )
    return {
        side: {
            "per_second": round(statistics.median(rates[side]), 1),
            "peak_mb": worker.end(),
            **worker.facts,
        }
        for side, worker in workers.items()
    }


def prepare(folder: Path) -> None:
    """The same tokens in the forms that the sides read: text of tokens (`train.source` ..), and their ids (`train/`, `decode.json`)."""
    if not mirror.folder("multi30k"):
        raise InputError(f"benchmarks.translation needs {mirror.VARIABLE}, a data mirror with multi30k/ in it.")
    config = corpora.corpus_config({"name": "multi30k", "source": "en", "target": "de"}, "benchmark")
    pairs = [pair for pair in corpora.read_pairs(config) if pair.split == "train"]
    texts = [[pair.source for pair in pairs], [pair.target for pair in pairs]]
    tokenizer = train_tokenizer([*texts[0], *texts[1]], TokenizerConfig(vocab_size=VOCABULARY))
    source, target = (encode(tokenizer, side) for side in texts)
    short = [i for i in range(len(pairs)) if max(len(source[i]), len(target[i])) <= LONGEST]
    exact = [i for i in short if len(source[i]) == SOURCE][: BATCHES * COMMON["sentences"]]  # type: ignore[operator]
    tokens = [tokenizer.id_to_token(i) or "" for i in range(VOCABULARY)]
    assert not any(token.split() != [token] for token in tokens)
    (folder / "tokens.txt").write_text("\n".join(tokens[len(SPECIAL) :]) + "\n", encoding="utf-8")
    for name, rows in (("train", short), ("decode", exact)):
        sides = {"source": [source[i] for i in rows], "target": [target[i] for i in rows]}
        if name == "train":
            datasets.Dataset.from_dict(sides).save_to_disk(folder / name)
        else:
            (folder / f"{name}.json").write_text(json.dumps(sides["source"]), encoding="utf-8")
        for side, ids in sides.items():
            lines = (" ".join(tokens[i] for i in row) + "\n" for row in ids)
            (folder / f"{name}.{side}").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
