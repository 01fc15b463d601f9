"""The graph of stages, read from dvc.yaml: the only place where it is written."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


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
        if not stages:
            raise KeyError(f"dvc.yaml has no stage '{target}'; it has: {', '.join(sorted(self.upstream))}")
        return stages

    def downstream(self, stages: Iterable[str]) -> set[str]:
        """`stages` and everything that needs one of them."""
        found = set(stages)
        while True:
            more = {s for s, needs in self.upstream.items() if needs & found} - found
            if not more:
                return found
            found |= more


def read_graph() -> Graph:
    """The graph of dvc.yaml in the working directory."""
    from dvc.repo import Repo

    with Repo() as repo:
        graph = repo.index.graph
        return Graph(
            {s.addressing: frozenset(n.addressing for n in graph.successors(s)) for s in graph.nodes},
            {s.addressing: Path(out.fs_path) for s in graph.nodes for out in s.outs},
        )


def changed_stages() -> set[str]:
    """Stages that dvc holds for not up to date, by themselves; what follows them may have to run too."""
    done = subprocess.run(dvc("status", "--json"), capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        raise RuntimeError(f"dvc status failed:\n{done.stderr.strip()}")
    return set(json.loads(done.stdout[done.stdout.index("{") :]))


def dvc(*arguments: str) -> list[str]:
    """The command line of this Python's dvc; waits for a lock that another dvc holds."""
    return [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]


def environment(**more: str) -> dict[str, str]:
    """The environment of a stage: this Python is the `python` of its command, and nothing is reported to anybody."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1", **more}
