"""Prefix-tuning beside PEFT 0.21.2 on E2E: `GRADUS_DATA=... python -m benchmarks.prefix_tuning [--base FOLDER]`.

Same base (artifacts/base_models/smollm2, SmolLM2-135M unless --base says otherwise), same 10 flat virtual positions, same batches of 16 examples,
float32, AdamW, two threads, each measurement in a process of its own, all in one run; the systems take turns. Systems:

- `shared`: this project; an input is read once for all its references in the batch.
- `unshared`: this project; every example behind its input, without padding.
- `peft_loop`, `peft_trainer`: PEFT under a plain loop, and under `transformers.Trainer`; padded rows.
- `generate`, `peft_generate`: 40 tokens with beam 5 for 16 inputs, by this project and by `transformers.generate` with PEFT; no hypothesis
  ends before.

Each has its own users' settings of memory: this project's are in `stages/__init__.py`, PEFT's are those of torch and the system. With
--same-memory PEFT's processes have this project's, too.

Prints one JSON object: examples/s (all examples over all seconds, a batch's seconds being the median of its turns; a first update is left
out), peak memory and outputs/s; the largest difference of logits between this project and PEFT given its exported prefix; the prefix file's
size. Under `ratio`: `train` (shared) and `train_unshared` against the faster of PEFT's two, `generate`, and `memory`, `shared` over the
smaller of PEFT's two.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks import peers
from benchmarks.prefix_tuning.task import EXAMPLES, PROMPTS, UPDATES
from core.errors import InputError
from core.process_setup import set_up_process
from data import corpora
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.prefix import build_adapter
from model_io.language_model import load_language_model
from model_io.peft import export_prefix
from model_io.prefix import PREFIX, save_prefix

set_up_process()

PEFT, THREADS = "peft==0.21.2", 2
TRAINING, GENERATION = ("shared", "unshared", "peft_loop", "peft_trainer"), ("generate", "peft_generate")
TEMPLATE = "Restaurant data: {source}\nDescription:"  # as in experiments/e2e.yaml
WORDS = "Describe this restaurant in one sentence:"


def main() -> None:
    """Measures every system, turn by turn, and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--base", type=Path, default=Path("artifacts/base_models/smollm2"), help="folder of the base model"
    )
    parser.add_argument("--turns", type=int, default=3, help="how often each system is measured")
    parser.add_argument("--same-memory", action="store_true", help="PEFT's processes keep memory as this project's do")
    arguments = parser.parse_args()
    peers.environment(PEFT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = prepare(arguments.base, folder)

        def measured(what: str) -> dict[str, Any]:
            return in_a_process(what, arguments.base, folder, arguments.same_memory)

        turns = [{what: measured(what) for what in (*TRAINING, *GENERATION)} for _ in range(arguments.turns)]
        measured("logits"), measured("peft_logits")
        ours, theirs = (load_file(folder / f"{side}_logits.safetensors")["logits"] for side in ("gradus", "peft"))
    facts = {"threads": THREADS, "torch": torch.__version__, "same_memory": arguments.same_memory, "prefix_bytes": size}
    difference = {"peft_logits": {"largest_difference": float((ours - theirs).abs().max())}}
    print(json.dumps(facts | difference | compared(turns)))


def compared(turns: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Speeds and peaks of all systems, and this project's over PEFT's."""
    measures: dict[str, Any] = {}
    for what in TRAINING:
        # Batches differ in what padding costs them, and not for all systems alike: the rate is that of all, not of a middle one.
        of_batches = zip(*(turn[what]["seconds"] for turn in turns), strict=True)
        rate = round(EXAMPLES * UPDATES / sum(statistics.median(seconds) for seconds in of_batches), 3)
        peak = max(turn[what]["peak_mb"] for turn in turns)
        measures[what] = {"examples_per_second": rate, "peak_mb": peak, "updates": UPDATES * len(turns)}
    for what in GENERATION:
        rate = round(PROMPTS / statistics.median(turn[what]["seconds"] for turn in turns), 4)
        measures[what] = {"outputs_per_second": rate}
    texts = (turns[0][what]["texts"] for what in GENERATION)
    measures["same_texts"] = sum(ours == theirs for ours, theirs in zip(*texts, strict=True))
    examples = {what: measures[what]["examples_per_second"] for what in TRAINING}
    outputs = [measures[what]["outputs_per_second"] for what in GENERATION]
    memory = {what: measures[what]["peak_mb"] for what in TRAINING}
    fastest = max(examples["peft_loop"], examples["peft_trainer"])
    measures["ratio"] = {
        "train": round(examples["shared"] / fastest, 2),
        "train_unshared": round(examples["unshared"] / fastest, 2),
        "generate": round(outputs[0] / outputs[1], 2),
        "memory": round(memory["shared"] / min(memory["peft_loop"], memory["peft_trainer"]), 2),
    }
    return measures


def in_a_process(what: str, base: Path, folder: Path, same_memory: bool) -> dict[str, Any]:
    """What one system took."""
    environment, side = dict(os.environ), "gradus_side"
    if what.startswith("peft_"):
        environment, side, what = peers.environment(PEFT), "peft_side", what.removeprefix("peft_")
        if not same_memory:  # set by `set_up_process`
            del environment["THP_MEM_ALLOC_ENABLE"]
    command = [sys.executable, "-m", f"benchmarks.prefix_tuning.{side}", what, str(base), str(folder)]
    command += ["same_memory"] * (same_memory and side == "peft_side")
    environment |= {"OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{side} {what}: { {k: v for k, v in result.items() if k != 'texts'} }", file=sys.stderr, flush=True)
    return result


def prepare(base_folder: Path, folder: Path) -> int:
    """Writes the batches, the prompts, and one prefix in both formats; returns the size of its file."""
    base, tokenizer = load_language_model(base_folder)
    pairs = list(corpora.read_pairs(corpora.corpus_config({"name": "e2e"}, "the benchmark")))
    sources = list(dict.fromkeys(pair.source for pair in pairs if pair.split == "train"))
    chosen = [sources[i] for i in np.random.default_rng(0).permutation(len(sources))]
    targets: dict[str, list[list[int]]] = {}
    for pair in pairs:
        if pair.split == "train":
            ids = [*tokenizer(" " + pair.target, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            targets.setdefault(pair.source, []).append(ids)
    examples = ((tokenizer(TEMPLATE.format(source=s))["input_ids"], t) for s in chosen for t in targets[s])
    batches = [[next(examples) for _ in range(EXAMPLES)] for _ in range(UPDATES)]
    tested = list(dict.fromkeys(pair.source for pair in pairs if pair.split == "test"))
    tested = [tested[i] for i in np.random.default_rng(0).permutation(len(tested))[:PROMPTS]]
    prompts = [tokenizer(TEMPLATE.format(source=source))["input_ids"] for source in tested]
    (folder / "data.json").write_text(json.dumps({"batches": batches, "prompts": prompts}), encoding="utf-8")
    for name in ("prefix", "peft"):
        (folder / name).mkdir()
    torch.manual_seed(0)
    adapter = build_adapter(
        "prefix", base, PrefixConfig(num_virtual_tokens=10, prefix_projection=False), tokenizer(WORDS)["input_ids"]
    )
    save_prefix(folder / "prefix", "prefix", adapter, base_folder, TEMPLATE)
    export_prefix(folder / "prefix", base, base_folder, folder / "peft")
    return (folder / "prefix" / PREFIX).stat().st_size


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
