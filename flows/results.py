"""What a run has measured: the headline metrics of its stages, as tables at its end."""

import json
from collections.abc import Iterable
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from core.headlines import headline_metrics, tables
from core.progress import in_terminal, say
from flows.graph import Graph

LOG_WIDTH = 120  # columns of a table that no terminal shows


def headlines(graph: Graph, stages: Iterable[str]) -> dict[str, float]:
    """The headline metrics of `stages`, from the summary.json of their outputs."""
    metrics: dict[str, float] = {}
    for stage in stages:
        summary = graph.output.get(stage, Path()) / "summary.json"
        if summary.is_file():
            metrics |= headline_metrics(stage, json.loads(summary.read_text(encoding="utf-8")))
    return metrics


def print_results(metrics: dict[str, float]) -> None:
    """Prints a table for each kind of model; nothing where there are no metrics."""
    console = Console(highlight=False, width=None if in_terminal() else LOG_WIDTH)
    for heading, *models in tables(metrics):
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for column, name in enumerate(heading):
            table.add_column(name, justify="right" if column else "left")
        for row in models:
            table.add_row(*row)
        with console.capture() as printed:  # whoever reads the output may have gone: `say` bears that
            console.print(table)
        say("\n" + printed.get().rstrip())
