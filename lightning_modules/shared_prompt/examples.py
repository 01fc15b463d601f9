"""Examples of a task as packed trees: an input read once for all its references, no padding, a loss on targets alone.

A group is (prompt, targets) as token ids; every target ends with the end token. It becomes a tree whose trunk is the prompt and whose
branches are the targets without their last tokens, which are only ever predicted. Unshared, each example is a row of its own.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from core.errors import InputError
from data.batching import BalancedLoader
from lightning_modules.shared_prompt import attention as packing

Group = tuple[Sequence[int], Sequence[Sequence[int]]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """Where trained positions stand, and what is shared.

    The vectors of an embedding-only prompt are `virtual` places of the row. Keys and values take none: as an infix they stand before the
    prompt's last token, which is read again with each target, because something has to predict the target's first token.
    """

    virtual: int = 0
    infix: bool = False
    share: bool = True

    def tree(self, prompt: Sequence[int], targets: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
        """Trunk and branches; the tokens that stand in virtual places are never read."""
        vectors = [0] * self.virtual
        trunk = [*prompt, *vectors] if self.infix else [*vectors, *prompt]
        again = [trunk.pop()] if self.infix and not self.virtual else []
        branches = [[*again, *target[:-1]] for target in targets]
        if not self.share and not again:
            (branch,) = branches
            return trunk + branch, []
        return trunk, branches


@dataclass(frozen=True)
class ExampleBatch:
    """Examples in one row of N tokens, and the T target tokens to predict."""

    trees: packing.Trees
    virtual: Tensor  # places in the row of the trained vectors, tree by tree
    predicting: Tensor  # (T,) places in the row that predict a target token: a trunk's end once for each target
    targets: Tensor  # (T,)
    examples: int

    def to(self, device: torch.device) -> "ExampleBatch":
        names = ("trees", "virtual", "predicting", "targets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def batch_examples(groups: Sequence[Group], layout: Layout) -> ExampleBatch:
    """Packs groups; under `share: False` each has one target."""
    trees = packing.pack([layout.tree(*group) for group in groups])
    lengths = np.array([len(t) for _, targets in groups for t in targets])
    tokens = np.concatenate([np.asarray(t, np.int64) for _, targets in groups for t in targets])
    trunk_ends = trees.trunk_lengths.numpy().cumsum()
    starts = trunk_ends - trees.trunk_lengths.numpy()
    prompt_lengths = np.array([len(prompt) for prompt, _ in groups])
    first = starts + (prompt_lengths if layout.infix else 0)
    virtual = (first[:, None] + np.arange(layout.virtual)).ravel()
    if not len(trees.branch_lengths):  # targets stand in the trunks, and end there
        within = np.arange(len(tokens)) - np.repeat(lengths.cumsum() - lengths, lengths)
        predicting = np.repeat(trunk_ends - lengths, lengths) + within
    elif layout.infix and not layout.virtual:
        predicting = trees.sizes[0] + np.arange(len(tokens))
    else:
        branch_lengths = lengths - 1
        before = trunk_ends[trees.trunk_of.numpy()] - 1
        branches = trees.sizes[0] + np.arange(branch_lengths.sum())
        predicting = np.insert(branches, branch_lengths.cumsum() - branch_lengths, before)
    return ExampleBatch(
        trees, torch.from_numpy(virtual), torch.from_numpy(predicting), torch.from_numpy(tokens), len(lengths)
    )


def tree_loader(
    groups: Sequence[Group],
    layout: Layout,
    budget: int,
    *,
    longest: int,
    shuffle: bool = True,
    seed: int = 0,
    share: tuple[int, int] = (0, 1),
) -> BalancedLoader:
    """Random batches of at most `budget` tokens.

    A group above the budget is cut into parts that read its prompt again; a single example above it is a batch by itself, and both are
    logged.

    Args:
        longest: tokens of prompt and target together that the base reads beside the trained positions, see `longest_text`.

    Raises:
        InputError: an example is longer, or has an empty prompt or target; names its group.
    """
    check_examples(groups, layout, longest)
    parts = [part for group in groups for part in _within_budget(group, layout, budget)]
    sizes = np.array([_tokens(part, layout) for part in parts])
    if layout.share and len(parts) > len(groups):
        logger.warning(
            "%d inputs are cut into %d parts of at most %d tokens (batch_tokens), each of which reads the input again",
            len(groups), len(parts), budget,
        )  # fmt: skip
    above = int((sizes > budget).sum())
    if above:
        logger.warning("%d examples have more than %d tokens (batch_tokens): each is a batch by itself", above, budget)

    def collate(chosen: np.ndarray) -> ExampleBatch:
        return batch_examples([parts[i] for i in chosen], layout)

    return BalancedLoader(sizes, collate, budget, shuffle=shuffle, seed=seed, share=share)


def check_examples(groups: Sequence[Group], layout: Layout, longest: int) -> None:
    """Raises InputError where a prompt or target is empty, or longer than the base can read; names the input and the limit."""
    for number, (prompt, targets) in enumerate(groups, start=1):
        where = f"input {number} of {len(groups)}"
        if not len(prompt):
            raise InputError(f"{where}: the prompt is empty: no token is left to predict the target's first from.")
        if len(prompt) < 2 and layout.infix and not layout.virtual:
            raise InputError(
                f"{where}: the prompt is one token: an infix of keys and values stands before its last, and after another."
            )
        if not len(targets) or not all(map(len, targets)):
            raise InputError(f"{where}: an empty target. A target has its words and the end token.")
        found = len(prompt) + max(map(len, targets))
        if found > longest:
            raise InputError(
                f"{where}: prompt and target have {found:,} tokens; beside the trained positions the base reads {longest:,}. "
                f"Leave it out (prefix_tuning.max_length), or train a shorter prefix."
            )


def _within_budget(group: Group, layout: Layout, budget: int) -> Iterator[Group]:
    """The group, cut where one more target would bring it above the budget; under `share: False` after each target."""
    prompt, targets = group
    part: list[Sequence[int]] = []
    for target in targets:
        if part and (not layout.share or _tokens((prompt, [*part, target]), layout) > budget):
            yield prompt, part
            part = []
        part.append(target)
    yield prompt, part


def _tokens(group: Group, layout: Layout) -> int:
    trunk, branches = layout.tree(*group)
    return len(trunk) + sum(map(len, branches))
