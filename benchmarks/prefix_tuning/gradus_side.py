"""This project's side: a prefix trained on shared prompts, and outputs by beam search, with the functions of its stages."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks import memory
from benchmarks.prefix_tuning.task import BEAM, PROMPTS, TOKENS, timed
from core.process_setup import set_up_process
from lightning_modules.generation.generate import GenerateConfig, generate
from lightning_modules.prefix_tuning.module import target_loss
from lightning_modules.shared_prompt.examples import EncodedInput, batch_examples
from lightning_modules.shared_prompt.reading import shared_prompt_attention
from model_io.language_model import load_language_model
from model_io.prefix import load_prefix

set_up_process()


def main() -> None:
    """`WHAT BASE FOLDER`: `shared`, `unshared`, `generate` or `logits`; prints what it took as JSON."""
    what, base_folder, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    data = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    base, _ = load_language_model(base_folder)
    base.requires_grad_(False)
    adapter = load_prefix(folder / "prefix", base, base_folder).adapter
    measures: dict[str, Any] = {}
    if what == "logits":
        with torch.inference_mode():
            states = adapter.states(base, torch.tensor(data["prompts"][:1]))
            save_file({"logits": base.get_output_embeddings()(states)}, folder / "gradus_logits.safetensors")
    elif what == "generate":
        config = GenerateConfig(beam_size=BEAM, max_new_tokens=TOKENS)
        before = time.perf_counter()
        measures["texts"] = generate(base, adapter, data["prompts"], [-1], config, batch=PROMPTS)
        measures["seconds"] = time.perf_counter() - before
    else:
        measures["seconds"] = train(base, adapter, data["batches"], share=what == "shared")
    print(json.dumps(measures | {"peak_mb": memory.peak()}))


def train(base: Any, adapter: Any, batches: list[list[Any]], share: bool) -> list[float]:
    """Seconds of each update."""
    rows = [batch_examples(encoded_inputs(batch, share), adapter.layout(share)) for batch in batches]

    def loss(batch: Any) -> torch.Tensor:
        total, count = target_loss(base, adapter, batch)
        return total / count

    with shared_prompt_attention(base):
        return timed(loss, rows, list(adapter.train().requires_grad_(True).parameters()))


def encoded_inputs(batch: list[Any], share: bool) -> list[EncodedInput]:
    """Inputs with their references of this batch; one by one unless shared."""
    inputs: list[tuple[list[int], list[list[int]]]] = []
    for prompt, target in batch:
        if not share or not inputs or inputs[-1][0] != prompt:
            inputs.append((prompt, []))
        inputs[-1][1].append(target)
    return list(inputs)


if __name__ == "__main__":
    main()
