"""Prefix-tuning beside PEFT 0.21.2 on E2E: `GRADUS_DATA=... python -m benchmarks.prefix_tuning [--base FOLDER]`.

Same base (artifacts/base_model, SmolLM2-135M unless --base says otherwise), same 10 flat virtual positions, same batches of 16 examples,
float32, AdamW, two threads, each measurement in a process of its own, all in one run; the systems take turns. Systems:

- `shared`: this project; an input is read once for all its references in the batch.
- `unshared`: this project; every example behind its input, without padding.
- `peft_loop`, `peft_trainer`: PEFT under a plain loop, and under `transformers.Trainer`; padded rows.
- `generate`, `peft_generate`: 40 pieces with beam 5 for 16 inputs, by this project and by `transformers.generate` with PEFT; no hypothesis
  ends before.

Prints one JSON object: examples/s (all examples over all seconds, a batch's seconds being the median of its turns; a first update is left
out), peak memory and outputs/s; the largest difference of logits between this project and PEFT given its exported prefix; the prefix file's
size. Under `ratio`: `train` (shared) and
`train_unshared` against the faster of PEFT's two, `generate`, and `memory`, `shared` over the smaller of PEFT's two.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch

import stages  # noqa: F401 - silences libraries
from benchmarks import memory, peers
from data import corpora
from data.batching import padded
from data.errors import InputError
from lightning_modules.generation import GenerationSettings, write
from lightning_modules.packed_examples import Group, batch_examples
from lightning_modules.prefix_training import target_loss
from lightning_modules.prefix_tuning import PrefixSettings, build
from stages.language_model_folder import load_causal_model
from stages.peft_folder import export_prefix
from stages.prefix_folder import PREFIX, save_prefix

PEFT = "peft==0.21.2"
EXAMPLES, UPDATES, PROMPTS, BEAM, PIECES, THREADS = 16, 6, 16, 5, 40, 2
TRAINING, GENERATION = ("shared", "unshared", "peft_loop", "peft_trainer"), ("generate", "peft_generate")
TEMPLATE = "Restaurant data: {source}\nDescription:"  # as in experiments/e2e.yaml
WORDS = "Describe this restaurant in one sentence:"


def main() -> None:
    """Measures everything; or, for its own processes, one system."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", type=Path, default=Path("artifacts/base_model"), help="folder of the base model")
    parser.add_argument("--turns", type=int, default=3, help="how often each system is measured")
    parser.add_argument("--measure", choices=[*TRAINING, *GENERATION, "peft_logits"], help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(THREADS)
    if given.measure:
        print(json.dumps(measure(given.measure, given.base, given.data)))
        return
    peers.environment(PEFT)
    with tempfile.TemporaryDirectory() as folder:
        size = _prepare(given.base, Path(folder))
        found: dict[str, Any] = {"threads": THREADS, "torch": torch.__version__, "prefix_bytes": size}
        turns = [
            {what: _in_a_process(what, given.base, Path(folder)) for what in (*TRAINING, *GENERATION)}
            for _ in range(given.turns)
        ]
        found["peft_logits"] = _in_a_process("peft_logits", given.base, Path(folder))
    for what in TRAINING:
        # Batches differ in what padding costs them, and not for all systems alike: the rate is that of all, not of a middle one.
        seconds = [
            statistics.median(of_batch) for of_batch in zip(*(turn[what]["seconds"] for turn in turns), strict=True)
        ]
        peak = max(turn[what]["peak_mb"] for turn in turns)
        rate = round(EXAMPLES * UPDATES / sum(seconds), 3)
        found[what] = {"examples_per_second": rate, "peak_mb": peak, "updates": UPDATES * len(turns)}
    for what in GENERATION:
        seconds = [turn[what]["seconds"] for turn in turns]
        found[what] = {"outputs_per_second": round(PROMPTS / statistics.median(seconds), 4)}
    rates = {what: found[what]["examples_per_second"] for what in TRAINING}
    memory = {what: found[what]["peak_mb"] for what in TRAINING}
    fastest = max(rates["peft_loop"], rates["peft_trainer"])
    ours, theirs = (turns[0][what]["texts"] for what in GENERATION)
    found["same_texts"] = sum(a == b for a, b in zip(ours, theirs, strict=True))
    outputs = [found[what]["outputs_per_second"] for what in GENERATION]
    found["ratio"] = {
        "train": round(rates["shared"] / fastest, 2),
        "train_unshared": round(rates["unshared"] / fastest, 2),
        "generate": round(outputs[0] / outputs[1], 2),
        "memory": round(memory["shared"] / min(memory["peft_loop"], memory["peft_trainer"]), 2),
    }
    print(json.dumps(found))


def _in_a_process(what: str, base: Path, folder: Path) -> dict[str, Any]:
    environment = peers.environment(PEFT) if what.startswith("peft") else dict(os.environ)
    environment |= {"OMP_NUM_THREADS": str(THREADS)}
    command = [
        sys.executable,
        "-m",
        "benchmarks.prefix_tuning",
        "--base",
        str(base),
        "--measure",
        what,
        "--data",
        str(folder),
    ]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{what}: { {k: v for k, v in result.items() if k != 'texts'} }", file=sys.stderr, flush=True)
    return result


def _prepare(base_folder: Path, folder: Path) -> int:
    """Writes the batches, the prompts, and one prefix in both formats; returns the size of its file."""
    base, tokenizer = load_causal_model(base_folder)
    pairs = list(corpora.read_pairs(corpora.settings({"name": "e2e"}, "the benchmark")))
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
    (folder / "data.json").write_text(json.dumps({"batches": batches, "prompts": prompts}))
    for name in ("prefix", "peft"):
        (folder / name).mkdir()
    torch.manual_seed(0)
    adapter = build("prefix", base, PrefixSettings(length=10, reparametrisation=False), tokenizer(WORDS)["input_ids"])
    save_prefix(folder / "prefix", "prefix", adapter, base_folder, TEMPLATE)
    export_prefix(folder / "prefix", base, base_folder, folder / "peft")
    return (folder / "prefix" / PREFIX).stat().st_size


def measure(what: str, base_folder: Path, folder: Path) -> dict[str, Any]:
    """What one system took: seconds of each update, or of all prompts, and its peak of memory."""
    from stages.prefix_folder import load_prefix

    data = json.loads((folder / "data.json").read_text())
    base, _ = load_causal_model(base_folder)
    base.requires_grad_(False)
    adapter = load_prefix(folder / "prefix", base, base_folder).adapter if not what.startswith("peft") else None
    if what in GENERATION:
        before = time.perf_counter()
        texts = _generated(adapter, base, data["prompts"], folder)
        return {"seconds": time.perf_counter() - before, "texts": texts}
    if what == "peft_logits":
        return {"largest_difference": _difference(base, base_folder, folder, data["prompts"])}
    if adapter is not None:
        share = what == "shared"
        rows = [batch_examples(_groups(batch, share), adapter.layout(share)) for batch in data["batches"]]

        def loss(batch: Any) -> torch.Tensor:
            total, count = target_loss(base, adapter, batch)
            return total / count

        seconds = _timed(loss, rows, list(adapter.train().requires_grad_(True).parameters()))
    else:
        model = _peft(base, folder, trained=True)
        batches = [_padded(batch) for batch in data["batches"]]
        if what == "peft_loop":
            seconds = _timed(lambda b: model(**b).loss, batches, [p for p in model.parameters() if p.requires_grad])
        else:
            seconds = _trainer(model, batches)
    return {"seconds": seconds, "peak_mb": memory.peak()}


def _groups(batch: list[Any], share: bool) -> list[Group]:
    """Inputs with their references of this batch; one by one unless shared."""
    groups: list[tuple[list[int], list[list[int]]]] = []
    for prompt, target in batch:
        if not share or not groups or groups[-1][0] != prompt:
            groups.append((prompt, []))
        groups[-1][1].append(target)
    return list(groups)


def _timed(loss: Callable[[Any], torch.Tensor], batches: list[Any], trained: list[torch.nn.Parameter]) -> list[float]:
    """Seconds of the update of each batch, after one that is not counted."""
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    seconds = []
    for batch in [batches[0], *batches]:
        before = time.perf_counter()
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - before)
    return seconds[1:]


def _padded(batch: list[Any]) -> dict[str, torch.Tensor]:
    text = padded([p + t for p, t in batch])
    labels = padded([[-100] * len(p) + t for p, t in batch])
    inside = torch.arange(text.shape[1]) < torch.tensor([[len(p) + len(t)] for p, t in batch])
    return {"input_ids": text, "attention_mask": inside.long(), "labels": labels.masked_fill(~inside, -100)}


def _peft(base: Any, folder: Path, trained: bool) -> Any:
    """The base with PEFT's adapter of the folder; PEFT trains no loaded prefix, so a trained one is made anew with its values."""
    from peft import PeftModel, PrefixTuningConfig, get_peft_model
    from safetensors.torch import load_file

    if not trained:
        return PeftModel.from_pretrained(base, folder / "peft")
    values = load_file(folder / "peft" / "adapter_model.safetensors")["prompt_embeddings"]
    model = get_peft_model(base, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(values)))
    model.prompt_encoder["default"].load_prompt_embeddings(values)
    return model


def _trainer(model: Any, batches: list[dict[str, torch.Tensor]]) -> list[float]:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.times.append(-time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.times[-1] += time.perf_counter()

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=1, max_steps=1 + len(batches), learning_rate=1e-3, report_to=[], use_cpu=True,
            save_strategy="no", logging_strategy="no", disable_tqdm=True, remove_unused_columns=False, train_sampling_strategy="sequential",
        )  # fmt: skip
        data, first = [batches[0], *batches], itemgetter(0)
        Trainer(model=model, args=arguments, train_dataset=data, data_collator=first, callbacks=[clock]).train()
    return clock.times[1:]


@torch.inference_mode()
def _generated(adapter: Any, base: Any, prompts: list[list[int]], folder: Path) -> list[list[int]]:
    if adapter is not None:
        return write(base, adapter, prompts, -1, GenerationSettings(beam=BEAM, max_pieces=PIECES), batch=PROMPTS)
    model = _peft(base, folder, trained=False).eval()
    text = padded(prompts, left=True)
    mask = (torch.arange(text.shape[1]) >= text.shape[1] - torch.tensor([[len(p)] for p in prompts])).long()
    options: dict[str, Any] = {
        "max_new_tokens": PIECES,
        "num_beams": BEAM,
        "do_sample": False,
        "eos_token_id": -1,
        "pad_token_id": 0,
    }
    found: list[list[int]] = model.generate(input_ids=text, attention_mask=mask, **options)[:, text.shape[1] :].tolist()
    return found


@torch.inference_mode()
def _difference(base: Any, base_folder: Path, folder: Path, prompts: list[list[int]]) -> float:
    """Of the logits of the first prompt, ours and those of PEFT with the exported prefix."""
    from stages.prefix_folder import load_prefix

    text = torch.tensor(prompts[:1])
    adapter = load_prefix(folder / "prefix", base, base_folder).adapter
    ours = base.get_output_embeddings()(adapter.states(base, text))
    theirs = _peft(base, folder, trained=False).eval()(input_ids=text, attention_mask=torch.ones_like(text)).logits
    return float((ours - theirs).abs().max())


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
