"""The adaptation task's examples: inputs of the corpus with their references, as token ids, sampled by a seed."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import datasets
import numpy as np

from core.errors import InputError
from data.arrow import references_by_source
from data.overlong import Overlong
from lightning_modules.language_model.prompts import end_token, prompts

TEXTS_AT_ONCE = 512  # which the tokenizer reads


class Input(NamedTuple):
    """An input with its references."""

    source: str
    prompt: list[int]
    targets: list[list[int]]  # those that fit, each with its end token; or the beginnings of those that do not
    references: list[str]  # all of them


class Sample(NamedTuple):
    """Inputs of a split, and how many pairs of input and reference were too long."""

    inputs: list[Input]
    dropped: int
    truncated: int


def read_inputs(
    stage: str,
    rows: datasets.Dataset,
    where: Path,
    examples: int | None,
    *,
    tokenizer: Any,
    template: str,
    max_length: int,
    overlong: Overlong = "drop",
    seed: int,
    by: Literal["inputs", "pairs"] = "inputs",
    inputs: int | None = None,
) -> Sample:
    """A sample of a split, the same for the same seed; a larger sample contains the smaller.

    Args:
        rows: a split of the corpus. where: its folder, for messages.
        examples: pairs of input and reference; None: no limit. inputs: how many of these.
        by: "inputs" takes inputs with all their references, "pairs" takes pairs one by one, as the paper's low-data sets (6.3) do.
        max_length: tokens of a prompt and a target together at most.
        overlong: longer pairs are left out ("drop"), or the end of the target is cut off, its end token included ("truncate").
            A pair whose prompt leaves room for less than two tokens of the target is left out.

    Raises:
        InputError: a target is empty, or no pair fits; names the row, or the limit.
    """
    for number, target in enumerate(rows["target"], start=1):
        if not target.strip():
            raise InputError(f"{where}, row {number}: an empty target: there is nothing to learn to write.")
    references = references_by_source(rows)
    units = list(references.items())
    if by == "pairs":
        units = [(source, [target]) for source, targets in references.items() for target in targets]
    order = np.random.default_rng(seed).permutation(len(units))
    sample: dict[str, Input] = {}
    pairs = dropped = truncated = 0
    max_pairs = len(rows) if examples is None else examples
    max_inputs = len(references) if inputs is None else inputs
    for start in range(0, len(order), TEXTS_AT_ONCE):
        if pairs >= max_pairs or len(sample) >= max_inputs:
            break
        chosen = [units[i] for i in order[start : start + TEXTS_AT_ONCE]]
        for source, prompt, targets in _encoded(chosen, tokenizer, template):
            if pairs >= max_pairs or len(sample) >= max_inputs:
                break
            room = max_length - len(prompt)
            readable = [t for t in targets if len(t) <= room or (overlong == "truncate" and room > 1)]
            dropped += len(targets) - len(readable)
            taken = readable[: max_pairs - pairs]
            truncated += sum(len(target) > room for target in taken)
            pairs += len(taken)
            if taken:
                sampled = sample.setdefault(source, Input(source, prompt, [], references[source]))
                sampled.targets.extend(target[:room] for target in taken)
    if not sample:
        raise InputError(
            f"{where}: no pair has at most {max_length} tokens. Raise prefix_tuning.task.max_length in params.yaml, "
            f"or shorten the template or the prefix."
        )
    print(
        f"{stage}: {where.name}: {pairs} examples of {len(sample)} inputs; "
        f"pairs longer than {max_length} tokens: {dropped} dropped, {truncated} truncated",
        flush=True,
    )
    return Sample(list(sample.values()), dropped, truncated)


def _encoded(
    units: list[tuple[str, list[str]]], tokenizer: Any, template: str
) -> list[tuple[str, list[int], list[list[int]]]]:
    """(source, prompt, targets) as token ids."""
    encoded_prompts = prompts(tokenizer, template, [source for source, _ in units])
    end = end_token(tokenizer, tokenizer.name_or_path)
    texts = [f" {target}" for _, targets in units for target in targets]
    ids = iter(tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    return [
        (source, prompt, [[*next(ids), end] for _ in targets])
        for (source, targets), prompt in zip(units, encoded_prompts, strict=True)
    ]
