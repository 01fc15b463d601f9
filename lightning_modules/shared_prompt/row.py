"""Prompts and their continuations as one row of tokens, without padding; and the trained prefixes that they are read with.

All prompts come first, then all continuations. A continuation's positions follow its prompt's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lightning_modules.shared_prompt.padding import PaddedCells

PromptContinuations = tuple[Sequence[int], Sequence[Sequence[int]]]  # token ids


@dataclass(frozen=True)
class SharedPromptRow:
    """B prompts of at most P tokens and their R continuations of at most C, in one row of N tokens."""

    tokens: Tensor  # (1, N)
    positions: Tensor  # (1, N)
    prompt_lengths: Tensor  # (B,)
    continuation_lengths: Tensor  # (R,)
    prompt_of: Tensor  # (R,) the prompt of each continuation
    sizes: tuple[int, int, int]  # tokens of all prompts, P, C
    prompt_cells: PaddedCells  # of a padded (B, P)
    continuation_cells: PaddedCells  # of (R, C)

    def to(self, device: torch.device) -> "SharedPromptRow":
        names = (
            "tokens", "positions", "prompt_lengths", "continuation_lengths", "prompt_of", "prompt_cells", "continuation_cells",
        )  # fmt: skip
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def ends(self) -> Tensor:
        """(R,) index in the row of each continuation's last token."""
        return self.sizes[0] + self.continuation_lengths.cumsum(0) - 1


def shared_prompt_row(texts: Sequence[PromptContinuations]) -> SharedPromptRow:
    """One row of prompts with their continuations. A prompt may be empty where it has continuations."""
    counts = np.array([len(continuations) for _, continuations in texts])
    prompt_lengths = np.array([len(prompt) for prompt, _ in texts])
    continuation_lengths = np.array([len(c) for _, continuations in texts for c in continuations], np.int64)
    prompt_width, continuation_width = int(prompt_lengths.max()), int(continuation_lengths.max(initial=0))
    prompt_of, _ = _rows_and_columns(counts)
    prompt_rows, prompt_columns = _rows_and_columns(prompt_lengths)
    continuation_rows, continuation_columns = _rows_and_columns(continuation_lengths)
    continued = continuation_columns + prompt_lengths[prompt_of][continuation_rows]
    tokens = [*(prompt for prompt, _ in texts), *(c for _, continuations in texts for c in continuations)]
    return SharedPromptRow(
        tokens=torch.from_numpy(np.concatenate([np.asarray(ids, np.int64) for ids in tokens]))[None],
        positions=torch.from_numpy(np.concatenate([prompt_columns, continued]))[None],
        prompt_lengths=torch.from_numpy(prompt_lengths),
        continuation_lengths=torch.from_numpy(continuation_lengths),
        prompt_of=torch.from_numpy(prompt_of),
        sizes=(int(prompt_lengths.sum()), prompt_width, continuation_width),
        prompt_cells=PaddedCells.of(prompt_rows * prompt_width + prompt_columns, len(prompt_lengths) * prompt_width),
        continuation_cells=PaddedCells.of(
            continuation_rows * continuation_width + continuation_columns,
            len(continuation_lengths) * continuation_width,
        ),
    )


def _rows_and_columns(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each element of rows of these lengths, one row after the other."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True)
class Prefixes:
    """Trained keys and values: M prefixes of at most L virtual tokens. What follows a prefix has its positions moved by its length.

    Shorter prefixes are aligned to the right of L.
    """

    layers: Sequence[tuple[Tensor, Tensor]]  # keys and values of each layer, (M, heads, L, d)
    lengths: Tensor  # (M,)
    prefix_of: Tensor | None = None  # (B,) the prefix of each prompt; None: all have the only one
    infix: bool = False  # between prompt and continuation; the prompt does not see it

    def max_length(self) -> int:
        return self.layers[0][0].shape[2]

    def by_prompt(self, values: Tensor, prompts: int) -> Tensor:
        """Expands values of prefixes (M, ...) to one for each prompt (B, ...)."""
        if self.prefix_of is None:
            return values.expand(prompts, *values.shape[1:])
        return values.index_select(0, self.prefix_of)

    def moved_positions(self, row: SharedPromptRow) -> Tensor:
        """(1, N) positions of the row's tokens, after the virtual tokens before them."""
        lengths = self.by_prompt(self.lengths, len(row.prompt_lengths))
        before_prompts = torch.zeros_like(lengths) if self.infix else lengths
        moves = [
            before_prompts.repeat_interleave(row.prompt_lengths),
            lengths[row.prompt_of].repeat_interleave(row.continuation_lengths),
        ]
        return row.positions + torch.cat(moves)[None]
