"""The graph of stages, read from dvc.yaml: the only place where it is written."""

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from core.errors import InputError

INPUTS = "inputs"  # the stage that looks at what comes from outside
# What each part of the pipeline is there to make: a stage's name without an item stands for all its items.
TARGETS = {
    "pretraining": ("evaluation", "language_model", "long_lag"),
    "comparison_import": ("comparisons", "reference_comparisons"),
    "reward_modeling": ("reward_model",),
    "prefix_tuning": ("prefix_tuning",),
}


@dataclass(frozen=True)
class Graph:
    """Stages by name (`pretraining@luong` for an item of a matrix), what each needs, and the folder that each makes."""

    upstream: dict[str, frozenset[str]] = field(default_factory=dict)
    output: dict[str, Path] = field(default_factory=dict)

    def closure(self, targets: Iterable[str]) -> set[str]:
        """The stages that `targets` name, and all they need. A name without item stands for all its items.

        Raises:
            KeyError: a target names no stage.
        """
        todo = [stage for target in targets for stage in self.named(target)]
        found: set[str] = set()
        while todo:
            stage = todo.pop()
            if stage not in found:
                found.add(stage)
                todo += self.upstream[stage]
        return found

    def named(self, target: str) -> list[str]:
        """The stages that a name stands for."""
        stages = [s for s in self.upstream if s == target or s.split("@")[0] == target]
        if not stages and not any(target in targets for targets in TARGETS.values()):  # their sections may be left out
            raise KeyError(f"dvc.yaml has no stage '{target}'; it has: {', '.join(sorted(self.upstream))}")
        return stages

    def downstream(self, stages: Iterable[str]) -> set[str]:
        """`stages` and everything that needs one of them."""
        reached = set(stages)
        while True:
            more = {s for s, needs in self.upstream.items() if needs & reached} - reached
            if not more:
                return reached
            reached |= more


class Plan(NamedTuple):
    """What dvc knows of the project in the working directory."""

    graph: Graph
    to_run: set[str]  # the stages that are not up to date, and all that needs one of them

    def __str__(self) -> str:
        stages = self.graph.upstream.keys()
        names = f", to run: {', '.join(sorted(self.to_run))}" if self.to_run else ""
        return f"{len(stages)} stages, {len(stages - self.to_run)} up to date{names}"

    def of(self, flow: str) -> set[str]:
        """The stages that a flow would run."""
        return self.to_run & self.graph.closure(TARGETS[flow]) if flow in TARGETS else self.to_run


def plan() -> Plan:
    """Looks at what comes from outside, reads dvc.yaml and asks dvc what has changed, in this process: a dvc of its own starts slower.

    Raises:
        InputError: something from outside is missing, or dvc cannot read the graph.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo

    try:
        with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
            stages = repo.index.graph
            if any(stage.addressing == INPUTS for stage in stages):
                _look_outside()
            graph = Graph(
                {
                    s.addressing: frozenset(n.addressing for n in stages.successors(s)) - {INPUTS}
                    for s in stages.nodes
                    if s.addressing != INPUTS
                },
                {s.addressing: Path(out.fs_path) for s in stages.nodes for out in s.outs},
            )
            return Plan(graph, graph.downstream(repo.status().keys() - {INPUTS}))
    except DvcException as error:
        remedy = (
            "" if Path(".git").exists() else ". In a folder without git, run once: dvc config --local core.no_scm true"
        )
        raise InputError(f"dvc cannot read the graph: {error}{remedy}") from error


def _look_outside() -> None:
    """Does what the stage `inputs` does. It is no stage of a flow: dvc would run it always, and say nothing of what changed."""
    looked = subprocess.run(
        [sys.executable, "-m", "stages.inputs"], env=environment(), stderr=subprocess.PIPE, text=True, check=False
    )
    if looked.returncode:
        raise InputError(looked.stderr.strip())


def environment(**more: str) -> dict[str, str]:
    """The environment of a stage: this Python is the `python` of its command, and nothing is reported to anybody."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1", **more}
