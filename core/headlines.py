"""A run's name, and the headline metrics of its stages under names that stay the same."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

# For each stage that measures a model: what it measures, and where summary.json of its output has each metric.
_HEADLINES: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "pretraining": ("translator", {"validation_perplexity": ("validation_perplexity",)}),
    "evaluation": ("translator", {"bleu": ("bleu",), "chrf": ("chrf",)}),
    "language_model": ("language_model", {"validation_perplexity": ("validation_perplexity",)}),
    "reward_model": ("reward_model", {"accuracy": ("test", "accuracy"), "log_loss": ("test", "log_loss")}),
    "prefix_tuning": ("prefix_tuning", {"test_loss": ("test_loss",), "bleu": ("bleu",), "chrf": ("chrf",)}),
    "long_lag": ("long_lag", {"solved_share": ("solved_share",)}),
}


def run_name(commit: str) -> str:
    """EXPERIMENT-COMMIT-DATE, e.g. `multi30k-7749839-2026-12-01-0315`: "+edits" and "+changes" say that files differ from these."""
    from core import (
        experiments,  # not above: every stage imports this file, and few need to parse YAML with its comments
    )

    sha, changes = commit[:7], commit[40:]
    return f"{experiments.current()}-{sha}{changes}-{datetime.now():%Y-%m-%d-%H%M}"


def headline_metrics(stage: str, summary: Mapping[str, Any]) -> dict[str, float]:
    """The headline metrics of a stage (`evaluation@luong`) by name (`translator.luong.bleu`), from its summary.json."""
    name, _, item = stage.partition("@")
    kind, places = _HEADLINES.get(name, ("", {}))
    metrics: dict[str, float] = {}
    for metric, path in places.items():
        value: Any = summary
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float):
            metrics[".".join(filter(None, (kind, item, metric)))] = float(value)
    return metrics


def tables(metrics: Mapping[str, float]) -> list[list[list[str]]]:
    """Headline metrics as a table for each kind of model: rows of cells, the first one of headings, then one for each model."""
    order = [kind for kind, _ in _HEADLINES.values()]
    kinds: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for name, value in metrics.items():
        kind, _, rest = name.partition(".")
        model, _, metric = rest.rpartition(".")
        kinds[kind][model or kind][metric] = value
    return [_table(kind, kinds[kind]) for kind in sorted(kinds, key=order.index)]


def markdown(metrics: Mapping[str, float]) -> str:
    """The `tables` in Markdown."""
    texts = []
    for heading, *models in tables(metrics):
        rule = ["---", *["---:"] * (len(heading) - 1)]
        rows = [heading, rule, *([f"`{name}`", *values] for name, *values in models)]
        texts.append("\n".join(f"| {' | '.join(cells)} |" for cells in rows))
    return "\n\n".join(texts)


def _table(kind: str, models: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    columns = sorted({metric for values in models.values() for metric in values})
    rows = [[name, *(_number(values.get(column)) for column in columns)] for name, values in sorted(models.items())]
    return [[kind, *columns], *rows]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:#.4g}"
