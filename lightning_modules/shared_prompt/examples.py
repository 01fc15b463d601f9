"""Examples of a task as rows of shared prompts: an input is read once for all its references; only targets have a loss.

An input is (prompt, targets) as token ids; every target ends with the end token. The last token of a target is only ever predicted, and
never read.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from core.errors import InputError
from core.processes import Process
from data.batching import SINGLE, BalancedLoader
from lightning_modules.shared_prompt.row import SharedPromptRow, shared_prompt_row

EncodedInput = tuple[Sequence[int], Sequence[Sequence[int]]]  # (prompt, targets)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExampleLayout:
    """Where the virtual tokens of a prefix are, and what is shared.

    The vectors of a prompt embedding are virtual tokens of the row. Trained keys and values need none. As an infix they come before the
    prompt's last token. Each target reads that token again, because something has to predict the target's first token.
    """

    virtual_tokens: int = 0
    infix: bool = False
    share_references: bool = True  # False: every example reads its own prompt

    def arrange(self, prompt: Sequence[int], targets: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
        """What is read as a shared prompt and its continuations. The ids of virtual tokens are 0, and never read."""
        virtual = [0] * self.virtual_tokens
        shared = [*prompt, *virtual] if self.infix else [*virtual, *prompt]
        again = [shared.pop()] if self.infix and not self.virtual_tokens else []
        continuations = [[*again, *target[:-1]] for target in targets]
        if not self.share_references and not again:
            (continuation,) = continuations
            return shared + continuation, []
        return shared, continuations

    def tokens(self, prompt: Sequence[int], targets: Sequence[Sequence[int]]) -> int:
        """Tokens of an input in the row."""
        shared, continuations = self.arrange(prompt, targets)
        return len(shared) + sum(map(len, continuations))


@dataclass(frozen=True)
class ExampleBatch:
    """Examples in one row of N tokens, and the T target tokens to predict."""

    row: SharedPromptRow
    virtual: Tensor  # indices in the row of the virtual tokens, input by input
    predicting: Tensor  # (T,) indices in the row that predict a target token: a prompt's end once for each target
    targets: Tensor  # (T,)
    examples: int

    def to(self, device: torch.device) -> "ExampleBatch":
        names = ("row", "virtual", "predicting", "targets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def batch_examples(inputs: Sequence[EncodedInput], layout: ExampleLayout) -> ExampleBatch:
    """The examples of inputs as one row; under `share_references: False` each input has one target."""
    row = shared_prompt_row([layout.arrange(*encoded) for encoded in inputs])
    lengths = np.array([len(t) for _, targets in inputs for t in targets])
    tokens = np.concatenate([np.asarray(t, np.int64) for _, targets in inputs for t in targets])
    shared_ends = row.prompt_lengths.numpy().cumsum()
    starts = shared_ends - row.prompt_lengths.numpy()
    prompt_lengths = np.array([len(prompt) for prompt, _ in inputs])
    first = starts + (prompt_lengths if layout.infix else 0)
    virtual = (first[:, None] + np.arange(layout.virtual_tokens)).ravel()
    if not len(row.continuation_lengths):  # targets are at the ends of the prompts
        within = np.arange(len(tokens)) - np.repeat(lengths.cumsum() - lengths, lengths)
        predicting = np.repeat(shared_ends - lengths, lengths) + within
    elif layout.infix and not layout.virtual_tokens:
        predicting = row.sizes[0] + np.arange(len(tokens))
    else:
        continuation_lengths = lengths - 1
        before = shared_ends[row.prompt_of.numpy()] - 1
        continuations = row.sizes[0] + np.arange(continuation_lengths.sum())
        predicting = np.insert(continuations, continuation_lengths.cumsum() - continuation_lengths, before)
    return ExampleBatch(
        row, torch.from_numpy(virtual), torch.from_numpy(predicting), torch.from_numpy(tokens), len(lengths)
    )


def shared_prompt_loader(
    inputs: Sequence[EncodedInput],
    layout: ExampleLayout,
    batch_tokens: int,
    *,
    max_length: int,
    shuffle: bool = True,
    seed: int = 0,
    process: Process = SINGLE,
) -> BalancedLoader:
    """Random batches of at most `batch_tokens` tokens.

    An input above that is cut into parts that read its prompt again. A single example above it is a batch by itself. Both are logged.

    Args:
        max_length: tokens of prompt and target together that the base reads beside the virtual tokens, see `max_text_length`.
        process: rank and world size, see `ResumableLoader`.

    Raises:
        InputError: an example is longer, or has an empty prompt or target; names its input.
    """
    check_examples(inputs, layout, max_length)
    parts = [part for encoded in inputs for part in _parts(encoded, layout, batch_tokens)]
    sizes = np.array([layout.tokens(*part) for part in parts])
    if layout.share_references and len(parts) > len(inputs):
        logger.warning(
            "%d inputs are cut into %d parts of at most %d tokens (batch_tokens), each of which reads the input again",
            len(inputs), len(parts), batch_tokens,
        )  # fmt: skip
    too_large = int((sizes > batch_tokens).sum())
    if too_large:
        logger.warning(
            "%d examples have more than %d tokens (batch_tokens): each is a batch by itself", too_large, batch_tokens
        )

    def collate(chosen: np.ndarray) -> ExampleBatch:
        return batch_examples([parts[i] for i in chosen], layout)

    return BalancedLoader(sizes, collate, batch_tokens, shuffle=shuffle, seed=seed, process=process)


def check_examples(inputs: Sequence[EncodedInput], layout: ExampleLayout, max_length: int) -> None:
    """Raises InputError where a prompt or target is empty, or longer than the base can read; names the input and the limit."""
    for number, (prompt, targets) in enumerate(inputs, start=1):
        where = f"input {number} of {len(inputs)}"
        if not len(prompt):
            raise InputError(f"{where}: the prompt is empty: no token is left to predict the target's first from.")
        if len(prompt) < 2 and layout.infix and not layout.virtual_tokens:
            raise InputError(
                f"{where}: the prompt has one token, and an infix of keys and values needs a token before and after it."
            )
        if not len(targets) or not all(map(len, targets)):
            raise InputError(f"{where}: an empty target. A target has its words and the end token.")
        length = len(prompt) + max(map(len, targets))
        if length > max_length:
            raise InputError(
                f"{where}: prompt and target have {length:,} tokens; beside the virtual tokens the base reads {max_length:,}. "
                f"Leave it out (prefix_tuning.task.max_length), or train a shorter prefix."
            )


def _parts(encoded: EncodedInput, layout: ExampleLayout, batch_tokens: int) -> Iterator[EncodedInput]:
    """The input, cut where one more target would bring it above `batch_tokens`; under `share_references: False` after each target."""
    prompt, targets = encoded
    part: list[Sequence[int]] = []
    for target in targets:
        if part and (not layout.share_references or layout.tokens(prompt, [*part, target]) > batch_tokens):
            yield prompt, part
            part = []
        part.append(target)
    yield prompt, part
