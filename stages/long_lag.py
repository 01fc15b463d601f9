"""Stage `long_lag`: many trials of one task of "Long Short-Term Memory" (1997). `python -m stages.long_lag ITEM`."""

import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from core.folders import finished_file
from core.progress import Progress
from data.long_lag import ADDITIONAL
from data.long_lag import task as task_of
from lightning_modules.lstm_1997.trials import Trials
from stages.framework import layout
from stages.framework.params import required
from stages.framework.stage import SECONDS_BETWEEN_CHECKPOINTS, Stage, stage

POINTS = 100  # of the learning curve, in all the sequences that a trial may see


def main() -> None:
    with stage("long_lag", layout.LONG_LAG, items="long_lag.tasks") as this:
        config = required(this.params.long_lag).tasks[this.item]
        seed = this.params.seed if config.seed is None else config.seed
        task = task_of(config.task, config.settings, f"long_lag.tasks.{this.item}")
        trials = Trials(task, config.trials, seed, config.variant)
        checkpoint = layout.WORK / "checkpoints" / f"{this.name.replace('@', '-')}-{this.key}" / "trials.safetensors"
        this.when_done.append(lambda: shutil.rmtree(checkpoint.parent, ignore_errors=True))
        curve, seconds = run(trials, config.sequences, checkpoint, this)
        this.write_json(layout.CURVE, curve)
        results = trials.results()
        this.write_json(layout.TRIALS, results)
        # What the paper tells of its own net says nothing of another.
        is_paper = config.variant == "paper"
        criteria = {
            c.name: _of_criterion([t[c.name] for t in results], c.published if is_paper else None)
            for c in task.criteria
        }
        this.summarise(
            {
                "task": config.task,
                "settings": config.settings,
                "variant": config.variant,
                "weights": trials.nets.weights,
                "trials": config.trials,
                "most_sequences": config.sequences,
                "criteria": criteria,
                "solved_share": criteria[task.criteria[-1].name]["solved_share"],
                **_additional(results, task.criteria[-1].name),
                "sequences_per_second": trials.trained_on / max(seconds, 1e-9),
                "seconds": seconds,
            }
        )


def run(trials: Trials, sequences: int, checkpoint: Path, this: Stage) -> tuple[list[dict[str, float]], float]:
    """Trains until all trials have met their last criterion or seen `sequences`; the learning curve, and the seconds it took.

    The state is saved to `checkpoint` now and then, and a run that finds one there continues from it.
    """
    curve: list[dict[str, float]] = []
    before = 0.0
    if checkpoint.is_file():
        with safe_open(checkpoint, "pt") as file:
            trials.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - no mapping
            saved = json.loads(file.metadata()["progress"])
        curve, before = saved["curve"], saved["seconds"]
        print(f"{this.name}: continues from {trials.seen:,} sequences", flush=True)
    bar = Progress(this.name, sequences)
    started = last = time.monotonic()
    while len(live := trials.live) and trials.seen < sequences:
        trials.advance()
        recent = trials.recent(live)
        solved = trials.count - len(trials.live)
        if trials.seen >= len(curve) * sequences / POINTS or not len(trials.live):
            curve.append({"sequences": trials.seen, "solved": solved, **recent})
            this.run.metrics({"solved": solved, **recent}, trials.seen)
        bar.update(
            trials.seen,
            f"{solved}/{trials.count} solved  {trials.seen:,} sequences  error {recent['error']:.3f}  wrong {recent['wrong']:.0%}",
        )
        if time.monotonic() - last >= SECONDS_BETWEEN_CHECKPOINTS:
            last = time.monotonic()
            progress = json.dumps({"curve": curve, "seconds": before + last - started})
            with finished_file(checkpoint) as partial:
                save_file({k: v.contiguous() for k, v in trials.state_dict().items()}, partial, {"progress": progress})
    return curve, before + time.monotonic() - started


def _of_criterion(sequences: list[int | None], published: int | None) -> dict[str, Any]:
    """How many trials met a criterion, and when, beside the paper's mean."""
    met = [n for n in sequences if n is not None]
    return {
        "solved": len(met),
        "solved_share": len(met) / len(sequences),
        "mean": statistics.mean(met) if met else None,
        "median": statistics.median(met) if met else None,
        "least": min(met, default=None),
        "most": max(met, default=None),
        "published": published,
    }


def _additional(results: list[dict[str, Any]], last: str) -> dict[str, Any]:
    """Trials that have succeeded, on more test sequences: wrong ones on average, and their mean error."""
    solved = [t for t in results if t[last] is not None]
    return {
        "tested": ADDITIONAL,
        "wrong": statistics.mean(t["wrong"] for t in solved) if solved else None,
        "mean_error": statistics.mean(t["mean_error"] for t in solved) if solved else None,
    }


if __name__ == "__main__":
    main()
