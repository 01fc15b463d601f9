"""Continuations by `transformers.generate`: for bases that cannot share a prompt's keys, and what ours is tested against."""

import itertools
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import GenerationConfig, PreTrainedModel

from data.batching import left_padded
from lightning_modules.prefix_tuning.prefix import BatchAdapter


@torch.inference_mode()
def transformers_generate(
    base: PreTrainedModel,
    adapter: BatchAdapter,
    prompts: Sequence[list[int]],
    ends: Sequence[int],
    max_new: int,
    **options: Any,
) -> list[list[int]]:
    """Continuations of prompts of token ids (one batch), up to the first token of `ends`; `options` go to `transformers.generate`.

    Prompts are padded on the left and the padding is masked, so a row gets what it would get alone. The generation config of the base's
    folder (a penalty of repetitions, no cache) is ignored.
    """
    text, mask = (x.to(base.device) for x in left_padded(prompts))
    inputs = adapter.generation_inputs(base, text, mask, options.get("num_beams", 1))
    of_folder, base.generation_config = base.generation_config, GenerationConfig()
    try:
        out = cast(Any, base).generate(
            **inputs,
            max_new_tokens=max_new,
            eos_token_id=list(ends),
            pad_token_id=ends[0],
            do_sample=options.pop("do_sample", False),
            **options,
        )
    finally:
        base.generation_config = of_folder  # it is saved with the base
    skipped = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
    rows = [row[skipped:] for row in out.tolist()]
    return [list(itertools.takewhile(lambda token: token not in ends, row)) for row in rows]
