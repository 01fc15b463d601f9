"""PEFT's side, as its users have it: the process is set up as this project's are only when asked for."""

import json
import sys
import tempfile
import time
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, PrefixTuningConfig, get_peft_model  # of .peers/
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from benchmarks import memory
from benchmarks.prefix_tuning.task import BEAM, TOKENS, timed
from benchmarks.trainer_clock import TrainerClock
from core.process_setup import set_up_process
from data.batching import left_padded, padded


def main() -> None:
    """`WHAT BASE FOLDER [same_memory]`: `loop`, `trainer`, `generate` or `logits`; prints what it took as JSON."""
    if "same_memory" in sys.argv[4:]:
        set_up_process()
    what, base_folder, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    data = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    # Without `dtype` it has the file's half precision.
    base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    measures: dict[str, Any] = {}
    if what in ("loop", "trainer"):
        model, batches = trained(base, folder / "peft"), [batch_of(examples) for examples in data["batches"]]
        measures["seconds"] = loop(model, batches) if what == "loop" else trainer(model, batches)
    else:
        model = PeftModel.from_pretrained(base, folder / "peft").eval()
        with torch.inference_mode():
            if what == "logits":
                logits = model(**prompts_of(data["prompts"][:1])).logits
                save_file({"logits": logits.contiguous()}, folder / "peft_logits.safetensors")
            else:
                before = time.perf_counter()
                measures["texts"] = generate(model, data["prompts"])
                measures["seconds"] = time.perf_counter() - before
    print(json.dumps(measures | {"peak_mb": memory.peak()}))


def trained(base: Any, folder: Path) -> Any:
    """The base with the folder's prefix. PEFT trains no loaded prefix, so a new one gets its values."""
    values = load_file(folder / "adapter_model.safetensors")["prompt_embeddings"]
    model = get_peft_model(base, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(values)))
    model.prompt_encoder["default"].load_prompt_embeddings(values)
    return model


def batch_of(examples: list[Any]) -> dict[str, torch.Tensor]:
    """Padded rows of (prompt, target)."""
    text = padded([prompt + target for prompt, target in examples])
    labels = padded([[-100] * len(prompt) + target for prompt, target in examples])
    inside = torch.arange(text.shape[1]) < torch.tensor([[len(prompt) + len(target)] for prompt, target in examples])
    return {"input_ids": text, "attention_mask": inside.long(), "labels": labels.masked_fill(~inside, -100)}


def loop(model: Any, batches: list[dict[str, torch.Tensor]]) -> list[float]:
    """Seconds of each update in a plain loop."""
    return timed(lambda batch: model(**batch).loss, batches, [p for p in model.parameters() if p.requires_grad])


def trainer(model: Any, batches: list[dict[str, torch.Tensor]]) -> list[float]:
    """Seconds of each update under `Trainer`, which reads the batches in their order, after one that is not counted."""
    clock, data = TrainerClock(), [batches[0], *batches]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=1, max_steps=len(data), learning_rate=1e-3, report_to=[], use_cpu=True,
            save_strategy="no", logging_strategy="no", disable_tqdm=True, remove_unused_columns=False, train_sampling_strategy="sequential",
        )  # fmt: skip
        Trainer(model=model, args=arguments, train_dataset=data, data_collator=itemgetter(0), callbacks=[clock]).train()
    return clock.seconds[1:]


def prompts_of(prompts: list[list[int]]) -> dict[str, torch.Tensor]:
    """Rows padded on the left, as `generate` asks for."""
    text, mask = left_padded(prompts)
    return {"input_ids": text, "attention_mask": mask}


def generate(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    """What follows each prompt, by `transformers.generate`; no hypothesis ends before the last token."""
    rows = prompts_of(prompts)
    options = {"max_new_tokens": TOKENS, "num_beams": BEAM, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0}
    outputs: list[list[int]] = model.generate(**rows, **options)[:, rows["input_ids"].shape[1] :].tolist()
    return outputs


if __name__ == "__main__":
    main()
