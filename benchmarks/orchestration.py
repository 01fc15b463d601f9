"""What a stage costs beside its work, and what a run costs that has nothing to do.

Stages that do nothing run in a copy of this project, with its whole graph, under `dvc repro` and under a flow: `no_torch` opens a stage and
closes it, `torch` imports torch for that, `training` trains one weight with Lightning, as every model is trained. Counted are the
CPU seconds and the wall time of all processes: dvc, the stage, what records it in MLflow, the flow with its Prefect server. `first` is a
run of one stage, `each` what every further stage adds, `nothing_to_do` a `gradus run` where all is up to date. One JSON object is printed:

    python -m benchmarks.orchestration
"""

import argparse
import ctypes
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[1]
KINDS = ("no_torch", "torch", "training")
STAGE = """
import sys
from pathlib import Path
{imports}
from stages.framework.stage import stage

NAME = f"idle_{kind}_{{sys.argv[1]}}"

with stage(NAME, Path("artifacts", NAME)) as this:
    summary = {{"measured": 1.0}}
    {body}
    this.summarise(summary)
"""
BODIES = {
    "no_torch": ("", ""),
    "torch": ("import torch", "summary |= {'sum': float(torch.ones(2).sum())}"),
    "training": (
        """
import pytorch_lightning as pl
import torch
from lightning_modules.training.config import TrainingConfig
from lightning_modules.training.optimization import optimization
from stages.training.fit import fit


class OneWeight(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch, index):
        loss = self.weight.sum() ** 2
        return {"loss": loss, "train_loss": loss.detach(), "tokens": 1}

    def validation_step(self, batch, index):
        self.log("validation_loss", self.weight.sum() ** 2, batch_size=1)

    def configure_optimizers(self):
        return optimization(self.parameters(), TrainingConfig(), 4, hidden_size=1)


class Batches(list):
    state_dict = dict

    def load_state_dict(self, state):
        pass
""",
        "summary |= fit(this, OneWeight(), Batches([0] * 4), Batches([0]), TrainingConfig())",
    ),
}
FLOW = """
import asyncio, sys
import flows
from prefect import flow
from flows.execution import run_targets

@flow(name="benchmark")
async def run():
    await run_targets(tuple(sys.argv[1:]))

asyncio.run(run())
"""


class Copy:
    """A copy of this project under git, with `stages` more of each kind that do nothing.

    Each run has a seed of its own, so dvc runs them again and finds nothing in its run cache. The graph stays as large as a real one:
    dvc reads all of it for every stage of a flow.
    """

    def __init__(self, folder: Path, stages: int) -> None:
        self.folder, self.seed = folder, 0
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split("\0")
        for path in filter(None, names):
            if (PROJECT / path).is_file():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes((PROJECT / path).read_bytes())
        graph = (folder / "dvc.yaml").read_text(encoding="utf-8")
        idle = ""
        for kind, (imports, body) in BODIES.items():
            text = STAGE.format(kind=kind, imports=imports, body=body)
            (folder / "stages" / f"idle_{kind}.py").write_text(text, encoding="utf-8")
            for i in range(1, stages + 1):
                cmd, out = f"python -m stages.idle_{kind} {i}", f"artifacts/idle_{kind}_{i}"
                idle += f"\n  idle_{kind}_{i}:\n    cmd: {cmd}\n    params: [seed]\n    outs: [{out}]\n"
        (folder / "dvc.yaml").write_text(graph.replace("\nstages:\n", f"\nstages:{idle}\n", 1), encoding="utf-8")
        (folder / "flow.py").write_text(FLOW, encoding="utf-8")
        mirror = {"GRADUS_DATA": os.path.abspath(os.environ["GRADUS_DATA"])} if "GRADUS_DATA" in os.environ else {}
        unwanted = {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "GRADUS_PARENT_RUN", "PYTHONDONTWRITEBYTECODE"}
        self.environment = {k: v for k, v in os.environ.items() if k not in unwanted} | mirror | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder.parent), "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1",
        }  # fmt: skip
        identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org"]
        for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "start"]):
            subprocess.run(["git", *command], cwd=folder, check=True)
        self.cost("gradus", "use", "tiny")
        params = folder / "params.yaml"  # one stage after the other: their wall times add up
        params.write_text(re.sub(r"slots: \d+", "slots: 1", params.read_text(encoding="utf-8")), encoding="utf-8")

    def changed_stages(self, kind: str, count: int) -> list[str]:
        """`count` stages of a kind, which a new seed makes run again."""
        self.seed += 1
        params = self.folder / "params.yaml"
        params.write_text(
            re.sub(r"^seed: .*$", f"seed: {self.seed}", params.read_text(encoding="utf-8"), flags=re.MULTILINE),
            encoding="utf-8",
        )
        return [f"idle_{kind}_{i}" for i in range(1, count + 1)]

    def cost(self, *command: str) -> tuple[float, float]:
        """CPU seconds and wall time of a command and all processes that come from it, until the last has ended."""
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        wall = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        try:
            while True:
                os.wait()
        except ChildProcessError:
            pass
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall

    def make_up_to_date(self) -> None:
        """Gives every stage that did not run an output, and lets dvc take it for the stage's own."""
        listed = [sys.executable, "-c", "from flows.graph import plan; print(*plan().graph.output.values(), sep='\\n')"]
        outputs = subprocess.run(
            listed, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True
        ).stdout
        for output in map(Path, outputs.splitlines()):
            if not (self.folder / output).exists():
                (self.folder / output).mkdir(parents=True)
                (self.folder / output / "made").touch()
        self.cost("dvc", "commit", "--quiet", "--force")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, default=20, help="further stages in a run")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of stages to measure")
    parser.add_argument("--repeats", type=int, default=3, help="the median is printed")
    asked = parser.parse_args()
    # Processes whose parent has ended become children of this one: their CPU seconds count.
    ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder) / "gradus", 1 + asked.stages)
        runners = {"dvc": ("dvc", "repro", "--quiet"), "flow": (sys.executable, "flow.py")}
        for kind in asked.kinds:  # the data base is made, files are compiled and in memory
            copy.cost(*runners["dvc"], *copy.changed_stages(kind, 1))
        copy.cost(*runners["flow"], *copy.changed_stages(asked.kinds[0], 1))
        measured = {
            kind: {name: _costs(copy, runner, kind, asked.stages, asked.repeats) for name, runner in runners.items()}
            for kind in asked.kinds
        }
        copy.make_up_to_date()
        nothing = [copy.cost("gradus", "run") for _ in range(asked.repeats)]
    print(json.dumps({**measured, "nothing_to_do": _medians(nothing), "cores": len(os.sched_getaffinity(0))}, indent=2))


def _costs(copy: Copy, runner: tuple[str, ...], kind: str, further: int, repeats: int) -> dict[str, dict[str, float]]:
    runs = [
        [copy.cost(*runner, *copy.changed_stages(kind, count)) for count in (1, 1 + further)] for _ in range(repeats)
    ]
    one, more = (_medians([run[i] for run in runs]) for i in (0, 1))
    return {"first": one, "each": {unit: round((more[unit] - one[unit]) / further, 2) for unit in one}}


def _medians(costs: list[tuple[float, float]]) -> dict[str, float]:
    cpu, wall = zip(*costs, strict=True)
    return {"cpu_seconds": round(statistics.median(cpu), 2), "wall_seconds": round(statistics.median(wall), 2)}


if __name__ == "__main__":
    main()
