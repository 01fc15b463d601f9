"""The report's plots, as PNG files."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator, NullLocator

from stages.reporting.families import families

Curve = Sequence[Mapping[str, float]]
plt.rcParams.update(
    {
        "figure.dpi": 130,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
    }
)


def learning_curves(curves: Mapping[str, Curve], unigram: float, path: Path) -> None:
    """Validation perplexity of each translator by epoch, beside the unigram model's."""
    figure, axes = plt.subplots(figsize=(6, 3.6))
    for name, curve in curves.items():
        axes.plot([e["epoch"] for e in curve], [e["validation_perplexity"] for e in curve], marker="o", label=name)
    axes.axhline(unigram, color="grey", linestyle="--", label="unigram model")
    axes.set(yscale="log", xlabel="epoch", ylabel="validation perplexity")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    _save(figure, path)


def attention(heat_map: Mapping[str, Any], title: str, path: Path) -> None:
    """Weights over the source tokens (columns) for each target token (rows)."""
    source, target = heat_map["source"], heat_map["target"]
    figure, axes = plt.subplots(figsize=(1.2 + 0.32 * len(source), 1.2 + 0.26 * len(target)))
    axes.imshow(heat_map["weights"], cmap="Greys", vmin=0, aspect="auto")
    # Tokens are text from data: matplotlib would read a pair of dollar signs as mathematics.
    axes.set_xticks(range(len(source)), [s.replace("$", r"\$") for s in source], rotation=60, ha="right")
    axes.set_yticks(range(len(target)), [t.replace("$", r"\$") for t in target])
    axes.grid(False)
    axes.set_title(title, fontsize=9)
    _save(figure, path)


def reward_models(models: Mapping[str, Mapping[str, Any]], baselines: Mapping[str, float], path: Path) -> None:
    """Accuracy beside what needs no model; accuracy and log loss while training; calibration; best of n.

    Models that differ in their seed only are one line of the learning curves, their mean, with a band from the least to the greatest.
    `models` has for each its `curve` and its `evaluation`; `baselines` are accuracies.
    """
    figure, ((bars, spare), (accuracy, log_loss), (calibration, best)) = plt.subplots(3, 2, figsize=(9, 9.6))
    shown = {**baselines, **{name: m["evaluation"]["test"]["accuracy"] for name, m in models.items()}}
    colors = ["lightgrey"] * len(baselines) + ["tab:blue"] * len(models)
    bars.barh(list(shown), [100 * v for v in shown.values()], color=colors)
    bars.invert_yaxis()
    bars.set(xlabel="comparisons right on held-out prompts, %", xlim=(min(40, 100 * min(shown.values())), 100))
    for color, names in enumerate(families(models, "seed")):
        name = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}"
        seeds = [models[name] for name in names]
        style = {"color": f"C{color % 10}", "marker": "."}
        curves = [model["curve"] for model in seeds]
        steps = [e["step"] for e in curves[0]]
        for axes, key, scale in ((accuracy, "validation_accuracy", 100), (log_loss, "validation_loss", 1)):
            values = scale * np.array([[e[key] for e in curve] for curve in curves])
            axes.plot(steps, values.mean(0), label=name, **style)
            axes.fill_between(steps, values.min(0), values.max(0), color=style["color"], alpha=0.15, linewidth=0)
        tested = seeds[0]["evaluation"]["test"]
        bins = tested["calibration_curve"]
        calibration.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], **style)
        won = tested["best_of_n_won_share"]
        best.plot(range(1, len(won) + 1), [100 * v for v in won], **style)
    handles, labels = accuracy.get_legend_handles_labels()
    spare.legend(handles, labels, loc="center", frameon=False, ncols=1 + len(labels) // 12)
    spare.axis("off")
    accuracy.set(xlabel="update", ylabel="accuracy on validation, %")
    log_loss.set(xlabel="update", ylabel="log loss on validation")
    log_loss.axhline(math.log(2), color="grey", linestyle="--")
    calibration.plot([0.5, 1], [0.5, 1], color="grey", linestyle="--")
    calibration.set(xlabel="claimed probability", ylabel="share right")
    best.set(xlabel="n", ylabel="rivals beaten by the best of n, %")
    best.xaxis.set_major_locator(MaxNLocator(integer=True))
    _save(figure, path)


def losses(bars: Mapping[str, float], path: Path) -> None:
    """Test loss of each prefix-tuning variant."""
    figure, axes = plt.subplots(figsize=(5, 0.8 + 0.4 * len(bars)))
    axes.barh(list(bars), list(bars.values()), color=["lightgrey" if name == "none" else "tab:blue" for name in bars])
    axes.invert_yaxis()
    axes.set(xlabel="loss on the target, nats a token")
    _save(figure, path)


def few_examples(lines: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Test loss and BLEU of each way of adapting by the examples it learned from: the mean of the seeds, with a band of one deviation."""
    figure, both = plt.subplots(1, 2, figsize=(9, 3.4))
    for axes, key, label in zip(both, ("test_loss", "bleu"), ("loss on the target, nats a token", "BLEU"), strict=True):
        for color, (name, line) in enumerate(lines.items()):
            examples = [point["examples"] for point in line]
            mean, deviation = np.array([point[key] for point in line]).T
            axes.plot(examples, mean, marker="o", color=f"C{color % 10}", label=name)
            axes.fill_between(
                examples, mean - deviation, mean + deviation, color=f"C{color % 10}", alpha=0.15, linewidth=0
            )
        axes.set(xscale="log", xlabel="training examples", ylabel=label)
        ticks = sorted({point["examples"] for line in lines.values() for point in line})
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    both[0].legend(frameon=False)
    _save(figure, path)


def long_lag(tasks: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Share of the trials that have succeeded, by training sequences; a dotted line where the paper's mean is."""
    figure, axes = plt.subplots(figsize=(6, 3.6))
    for color, (name, task) in enumerate(tasks.items()):
        trials, curve = task["summary"]["trials"], task["curve"]
        steps = [e["sequences"] for e in curve]
        axes.step(steps, [100 * e["solved"] / trials for e in curve], where="post", color=f"C{color % 10}", label=name)
        published = list(task["summary"]["criteria"].values())[-1]["published"]
        if published:
            axes.axvline(published, color=f"C{color % 10}", linestyle=":")
    axes.set(xscale="log", xlabel="training sequences", ylabel="trials solved, %", ylim=(-3, 103))
    axes.legend(frameon=False)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
