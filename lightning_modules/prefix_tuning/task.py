"""The adaptation task's examples: inputs of the corpus with their references, as token ids, sampled by a seed."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import datasets
import numpy as np

from core.errors import InputError
from data.arrow import references_by_source
from lightning_modules.language_model.prompts import end_token, prompts

READ_AT_ONCE = 512


class Input(NamedTuple):
    """An input with its references."""

    source: str
    prompt: list[int]
    targets: list[list[int]]  # those that fit, each with its end token
    references: list[str]  # all of them


def read_inputs(
    stage: str,
    rows: datasets.Dataset,
    where: Path,
    examples: int | None,
    *,
    tokenizer: Any,
    template: str,
    longest: int,
    seed: int,
    by: Literal["inputs", "pairs"] = "inputs",
    inputs: int | None = None,
) -> list[Input]:
    """A sample of a split, the same for the same seed; a larger one holds the smaller.

    Args:
        rows: a split of the corpus. where: its folder, for messages.
        examples: pairs of input and reference; None: no limit. inputs: how many of these.
        by: "inputs" takes inputs with all their references, "pairs" takes pairs one by one, as the paper's low-data sets (6.3) do.
        longest: pairs of more tokens are left out, and counted in the log.

    Raises:
        InputError: a target is empty, or no pair fits; names the row, or the limit.
    """
    for number, target in enumerate(rows["target"], start=1):
        if not target.strip():
            raise InputError(f"{where}, row {number}: an empty target: there is nothing to learn to write.")
    known = references_by_source(rows)
    units = list(known.items()) if by == "inputs" else [(s, [t]) for s, targets in known.items() for t in targets]
    order = np.random.default_rng(seed).permutation(len(units))
    found: dict[str, Input] = {}
    taken = too_long = 0
    wanted = len(rows) if examples is None else examples
    most = len(known) if inputs is None else inputs
    for start in range(0, len(order), READ_AT_ONCE):
        if taken >= wanted or len(found) >= most:
            break
        for source, prompt, targets in _encoded(
            [units[i] for i in order[start : start + READ_AT_ONCE]], tokenizer, template
        ):
            if taken >= wanted or len(found) >= most:
                break
            short = [t for t in targets if len(prompt) + len(t) <= longest]
            too_long += len(targets) - len(short)
            if short:
                kept = found.setdefault(source, Input(source, prompt, [], known[source]))
                kept.targets.extend(short[: wanted - taken])
                taken += len(short[: wanted - taken])
    if not found:
        raise InputError(
            f"{where}: no pair has at most {longest} tokens. Raise prefix_tuning.max_length in params.yaml, "
            f"or shorten the template or the prefix."
        )
    print(
        f"{stage}: {where.name}: {taken} examples of {len(found)} inputs; {too_long} pairs passed over, longer than {longest} tokens",
        flush=True,
    )
    return list(found.values())


def _encoded(
    units: list[tuple[str, list[str]]], tokenizer: Any, template: str
) -> list[tuple[str, list[int], list[list[int]]]]:
    """(source, prompt, targets) as token ids; the tokenizer sees a part of the texts at once."""
    read = prompts(tokenizer, template, [source for source, _ in units])
    end = end_token(tokenizer, tokenizer.name_or_path)
    texts = [f" {target}" for _, targets in units for target in targets]
    targets = iter(tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    return [
        (source, prompt, [[*next(targets), end] for _ in own])
        for (source, own), prompt in zip(units, read, strict=True)
    ]
