"""What a long-lag task is: its sequences, its network, and when it counts as solved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from pydantic import Field, model_validator

from core.config import Config, nearest, validated
from core.errors import InputError

if TYPE_CHECKING:  # a task is a config, too: whoever reads params.yaml need not load torch
    from torch import Tensor

S = TypeVar("S", bound=Config)

ADDITIONAL = 2560  # test sequences that measure a trial after its success
RECENT = 2000  # training sequences that "average training error" and "most recent" speak of
TEST_PART = 256  # test sequences looked at together


class NetworkConfig(Config):
    """What may be changed of a net: all but the inputs and outputs, which are the task's."""

    blocks: int = Field(default=1, ge=1)
    """Memory blocks; each has one input gate and one output gate."""
    cells: int = Field(default=1, ge=1)
    """Memory cells of each block."""
    output_gates: bool = True
    """Blocks have output gates."""
    recurrent: bool = True
    """Cells and gates see all cells and gates of the step before."""
    shortcut: bool = False
    """The output layer sees the input, too (table 10, connectivity "B")."""
    biased: tuple[Literal["gates", "cells", "outputs"], ...] = ()
    """Units that have biases. Cells have them only where gates do."""
    g: tuple[float, float] = (-2.0, 2.0)
    """Range of the logistic function g, which squashes a cell's input."""
    h: tuple[float, float] | None = (-1.0, 1.0)
    """Range of the logistic function h, which squashes a cell's state. `null`: identity."""
    initial: float = Field(default=0.1, gt=0)
    """Weights start uniform between minus this and this."""
    input_gate_bias: tuple[float, ...] = ()
    """First biases of the input gates, one for each block. Empty: uniform, as weights."""
    output_gate_bias: tuple[float, ...] = ()
    """First biases of the output gates, one for each block. Empty: uniform, as weights."""
    late_blocks: bool = False
    """Blocks are added when the error has stopped decreasing (section 4, abuse problem, solution 1)."""

    @model_validator(mode="after")
    def _ranges_have_a_width(self) -> Self:
        for name, bounds in (("g", self.g), ("h", self.h or (0.0, 1.0))):
            if bounds[0] >= bounds[1]:
                raise ValueError(f"{name} ranges from {bounds[0]} to {bounds[1]}; the lower bound comes first")
        return self


class Network(NetworkConfig):
    """A net of memory blocks as table 10 describes it: input, hidden layer of cells and gates, output."""

    inputs: int = Field(ge=1)
    """Input units."""
    outputs: int = Field(ge=1)
    """Output units."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for name in ("input_gate_bias", "output_gate_bias"):
            biases = getattr(self, name)
            if biases and (len(biases) != self.blocks or "gates" not in self.biased):
                raise InputError(
                    f"network: {name} has {len(biases)} values; give one a block ({self.blocks}), biased gates"
                )
        if "cells" in self.biased and "gates" not in self.biased:
            raise InputError("network: biased: cells have biases only where gates have them, too")
        if self.late_blocks and self.output_gates:
            raise InputError("network: late_blocks: blocks come late only where they have no output gates")
        return self


@dataclass(frozen=True)
class Sequences:
    """N sequences of up to T steps, padded at the end; with a trial dimension before N after `side_by_side`."""

    inputs: Tensor  # (N, T) symbols (local representation), or (N, T, I) values
    lengths: Tensor  # (N,)
    targets: Tensor  # (N, S, K); S = T where there is an error at every step, S = 1 where only at the end
    goals: Tensor  # (N, S, K) what outputs are judged by: targets without noise, or one for every legal symbol

    def __getitem__(self, place: Any) -> Sequences:
        return Sequences(self.inputs[place], self.lengths[place], self.targets[place], self.goals[place])


def side_by_side(trials: list[Sequences], join: Literal["stack", "cat"] = "stack") -> Sequences:
    """The sequences of several trials as one batch (trials, N, ...), or (`cat`) several sets as one of all their sequences."""
    import torch

    steps = max(s.inputs.shape[1] for s in trials)

    def joined(parts: list[Tensor]) -> Tensor:
        whole = [torch.cat([p, p.new_zeros(p.shape[0], steps - p.shape[1], *p.shape[2:])], 1) for p in parts]
        return torch.stack(whole) if join == "stack" else torch.cat(whole)

    every = trials[0].targets.shape[1] == trials[0].inputs.shape[1]
    targets, goals = ([getattr(s, name) for s in trials] for name in ("targets", "goals"))
    lengths = [s.lengths for s in trials]
    simple = torch.stack if join == "stack" else torch.cat
    return Sequences(
        joined([s.inputs for s in trials]),
        simple(lengths),
        joined(targets) if every else simple(targets),
        joined(goals) if every else simple(goals),
    )


class CriterionConfig(Config):
    """What may be changed of a criterion."""

    on: Literal["training", "test"] = "test"
    """`training`: the most recent training sequences. `test`: a test set."""
    sequences: int = Field(default=256, ge=1)
    """Sequences that are looked at; of `training` at most 2000."""
    most_wrong: int = Field(default=0, ge=0)
    """Sequences that may be wrong."""
    mean_error: float | None = Field(default=None, gt=0)
    """The mean absolute error must be below it. `null`: any."""


class Criterion(CriterionConfig):
    """When a trial has succeeded; every condition must hold."""

    name: str = "success"
    """Its name, by which `criteria` changes it."""
    published: int | None = None
    """The paper's mean number of training sequences before it was met."""

    @model_validator(mode="after")
    def _is_remembered(self) -> Self:
        if self.on == "training" and self.sequences > RECENT:
            raise InputError(
                f"criteria.{self.name}: sequences: {self.sequences} of training; the most recent {RECENT} are remembered"
            )
        return self


class Task(Config, ABC):
    """A task with its paper settings. A sequence is right if all outputs at its end are within `tolerance` of the goal.

    The keys `network` and `criteria` change the paper's network and criteria, key by key.
    """

    varied: ClassVar[frozenset[str]] = frozenset()  # what `paper_criteria` looks the paper's numbers up by

    learning_rate: float = Field(gt=0)
    """Learning rate."""
    update: Literal["sequence", "step"] = "sequence"
    """`sequence`: an update is the sum of the contributions of all time steps (A.1). `step`: every step with an error is an update."""
    round: int = Field(default=100, ge=1)
    """Training sequences between two checks of the criteria. The paper does not say how many."""
    tolerance: float = Field(gt=0)
    """A sequence is right if all outputs at its end are closer to their goals than this."""
    network_changes: NetworkConfig = Field(default=NetworkConfig(), alias="network")
    """What differs from the paper's network."""
    criteria_changes: dict[str, CriterionConfig] = Field(default_factory=dict, alias="criteria")
    """What differs from the paper's criteria, by a criterion's name."""

    @property
    @abstractmethod
    def paper_network(self) -> Network: ...

    @property
    @abstractmethod
    def paper_criteria(self) -> tuple[Criterion, ...]:
        """In the order in which they are met; a trial ends with the last."""

    @property
    def network(self) -> Network:
        """The paper's, with what the settings change. Raises InputError where they do not agree."""
        return changed(self.paper_network, self.network_changes, "network")

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The paper's, with what the settings change; only what is as in the paper has its number beside it. Raises InputError."""
        paper, changes = self.paper_criteria, self.criteria_changes
        if unknown := changes.keys() - {c.name for c in paper}:
            name = min(unknown)
            raise InputError(f"criteria: unknown key '{name}' - {nearest(name, [c.name for c in paper])}")
        criteria = tuple(changed(c, changes[c.name], f"criteria.{c.name}") if c.name in changes else c for c in paper)
        if criteria == paper and self.network == self.paper_network and not self._departures():
            return criteria
        return tuple(c.model_copy(update={"published": None}) for c in criteria)

    def _departures(self) -> list[str]:
        """Settings that are not the paper's, but for those that it varied and `update` and `round`, of which it says nothing."""
        free = {"update", "round", "network_changes", "criteria_changes"} | self.varied
        fields = type(self).model_fields
        return [name for name in fields if name not in free and getattr(self, name) != fields[name].default]

    @abstractmethod
    def sequences(self, random: np.random.Generator, count: int) -> Sequences:
        """`count` random sequences."""

    def training(self, seed: int, trial: int, turn: int) -> Sequences:
        """The training sequences of a trial's round number `turn`."""
        return self.sequences(np.random.default_rng([seed, trial, 0, turn]), self.round)

    def test(self, seed: int, trial: int, part: int, count: int) -> Sequences:
        """The first `count` of part `part` of a trial's test sequences, the same whenever asked; a part has TEST_PART."""
        return self.sequences(np.random.default_rng([seed, trial, 1, part]), count)

    def additional(self, seed: int, trial: int, part: int, count: int) -> Sequences:
        """More test sequences, for the measure of a trial that has succeeded."""
        return self.sequences(np.random.default_rng([seed, trial, 4, part]), count)

    def judge(self, outputs: Tensor, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """Which sequences are wrong, and their mean absolute errors, both (..., N), from outputs (..., N, S, K)."""
        errors = (at_end(outputs, sequences.lengths) - at_end(sequences.goals, sequences.lengths)).abs()
        return (errors >= self.tolerance).any(-1), errors.mean(-1)


def changed(paper: S, changes: Config, where: str) -> S:
    """`paper` with those values of `changes` that were given."""
    changed_values = changes.model_dump(exclude_unset=True)
    return validated(type(paper), {**dict(paper), **changed_values}, where) if changed_values else paper


def at_end(values: Tensor, lengths: Tensor) -> Tensor:
    """(..., N, K) `values` (..., N, S, K) at each sequence's last step."""
    if values.shape[-2] == 1:
        return values[..., 0, :]
    last = (lengths - 1)[..., None, None].expand(*lengths.shape, 1, values.shape[-1])
    return values.gather(-2, last)[..., 0, :]


def all_biased(**values: Any) -> Network:
    """Blocks of two cells, and biases for all units (tasks 4 to 6)."""
    return Network(cells=2, biased=("gates", "cells", "outputs"), **values)


def sequences_of(inputs: np.ndarray, lengths: np.ndarray, targets: np.ndarray, goals: np.ndarray) -> Sequences:
    import torch

    values = torch.from_numpy(inputs).long() if inputs.ndim == 2 else torch.from_numpy(inputs).float()
    return Sequences(
        values, torch.from_numpy(lengths), torch.from_numpy(targets).float(), torch.from_numpy(goals).float()
    )


def padded(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return np.where(np.arange(values.shape[1]) < lengths[:, None], values, 0)


def one_hot(symbols: np.ndarray, size: int) -> np.ndarray:
    """The local representation: (...,) symbols to (..., size)."""
    return np.eye(size, dtype=np.float32)[symbols]
