"""`gradus comparisons tasks`: what people are to rank, as files that Label Studio imports."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from gradus.errors import taught_errors


def tasks(
    source: Annotated[
        str,
        typer.Argument(
            help="File of prompts and responses (any ending that `import` reads), or folder of a collection."
        ),
    ],
    output: Annotated[Path, typer.Option(help="JSON file of tasks to write.")],
    config: Annotated[
        Path | None,
        typer.Option(help="Labeling configuration to write. Left out: labeling_config.xml beside --output."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the order in which responses are shown.")] = 0,
    template: Annotated[
        Literal["ranker", "pairwise"],
        typer.Option(
            help="All responses to a prompt in one task, with ties; or every two of them in a task of their own."
        ),
    ] = "ranker",
) -> None:
    """Make labeling tasks for Label Studio, and the labeling configuration of their project.

    A record is `{"prompt": "p", "responses": ["a", "b", "c"]}`, 2 to 9 responses; `messages`, `reference` and `systems` may be given.
    Labelers see prompt and responses, in random order; the rest comes back with the export (docs/how-to/labeling.md):
    `gradus comparisons import export.json --format label_studio --output rankings`.
    """
    from data.comparisons.labeling import write_tasks

    with taught_errors():
        config = config or output.with_name("labeling_config.xml")
        prompts, count = write_tasks(source, output, config, template, seed)
        typer.echo(f"{output}: {count:,} tasks for {prompts:,} prompts, {config}: their labeling configuration")
