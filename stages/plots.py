"""The report's plots, as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

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
    """Weights over the source pieces (columns) for each target piece (rows)."""
    source, target = heat_map["source"], heat_map["target"]
    figure, axes = plt.subplots(figsize=(1.2 + 0.32 * len(source), 1.2 + 0.26 * len(target)))
    axes.imshow(heat_map["weights"], cmap="Greys", vmin=0, aspect="auto")
    # Pieces are text from data: matplotlib would read a pair of dollar signs as mathematics.
    axes.set_xticks(range(len(source)), [s.replace("$", r"\$") for s in source], rotation=60, ha="right")
    axes.set_yticks(range(len(target)), [t.replace("$", r"\$") for t in target])
    axes.grid(False)
    axes.set_title(title, fontsize=9)
    _save(figure, path)


def reward(summary: Mapping[str, Any], path: Path) -> None:
    """Accuracy beside chance and length alone; chrF of what best-of-n picks."""
    gains = summary["best_of_n"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    bars = {
        "chance": summary["chance_accuracy"],
        "length\nalone": summary["length_accuracy"],
        "reward\nmodel": summary["accuracy"],
    }
    left.bar(list(bars), [100 * v for v in bars.values()], color=["lightgrey", "grey", "tab:blue"])
    left.set(ylabel="comparisons right, %", title="Held-out prompts")
    names = {
        "mean": "mean_chrf",
        "first\nchoice": "first_choice_chrf",
        "best of n": "picked_chrf",
        "best\npossible": "best_possible_chrf",
    }
    if gains:
        right.bar(list(names), [gains[v] for v in names.values()], color=["lightgrey", "grey", "tab:blue", "lightgrey"])
        right.set(ylabel="chrF of the response", title="Best of n")
    _save(figure, path)


def losses(bars: Mapping[str, float], path: Path) -> None:
    """Test loss of each prefix-tuning variant."""
    figure, axes = plt.subplots(figsize=(5, 0.8 + 0.4 * len(bars)))
    axes.barh(list(bars), list(bars.values()), color=["lightgrey" if name == "none" else "tab:blue" for name in bars])
    axes.invert_yaxis()
    axes.set(xlabel="loss on the target, nats a piece")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
