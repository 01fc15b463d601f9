"""`gradus evaluate-rankings`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from gradus.errors import taught_errors


def evaluate_rankings(
    file: Annotated[
        Path,
        typer.Argument(help="Folder of a comparison collection, or a file of rankings (see `gradus comparisons`)."),
    ],
    model: Annotated[Path, typer.Option(help="Folder of a reward model, e.g. artifacts/reward_models/grouped.")],
    format: Annotated[
        str, typer.Option(help="Format of a file; `gradus comparisons import --help` lists them.")
    ] = "auto",
    columns: Annotated[
        str | None,
        typer.Option(help="Of a file: which column each field is read from, as `gradus comparisons import` has it."),
    ] = None,
    higher_is_better: Annotated[
        bool, typer.Option("--higher-is-better", metavar="", help="Of a file: as `gradus comparisons import` has it.")
    ] = False,
) -> None:
    """Print as JSON how far a reward model agrees with rankings, beside how far their labelers agree with each other.

    The numbers: accuracy, log loss, calibration, Kendall's tau, accuracy by K and by rank distance, length bias, best of n.

    Example: `gradus evaluate-rankings artifacts/comparisons/ours/rankings --model artifacts/reward_models/grouped`
    """
    from data.comparisons.importing.columns import parse_columns
    from gradus.inference.evaluate_rankings import evaluation

    with taught_errors():
        options = {
            "format": format,
            "columns": parse_columns(columns) if columns else None,
            "higher_is_better": higher_is_better,
        }
        typer.echo(json.dumps(evaluation(model, file, options), indent=2, ensure_ascii=False))
