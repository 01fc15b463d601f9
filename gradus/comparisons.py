"""`gradus comparisons`: collections of rankings by hand."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from data.errors import InputError
from gradus.errors import taught_errors

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Import, check and export comparison collections.

    A ranking is one JSON object on a line:

        {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "labeler": "ann"}

    K >= 2 different responses; rank 1 is best, equal ranks are ties. `origin`, `reference` and `systems` (a list of names for
    each response) may be given.""",
)

Collection = Annotated[Path, typer.Argument(help="Folder of a collection, e.g. artifacts/comparisons/rankings.")]


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="JSON Lines files of rankings.")],
    output: Annotated[Path, typer.Option(help="Folder of the new collection.")],
) -> None:
    """Make a collection from files. A wrong line is named, and nothing is written then.

    To have people's rankings in the pipeline, put the files into labeled/ instead: the stage `comparisons` imports them.
    """
    from data.comparisons.collection import write_collection
    from data.comparisons.jsonl import read_jsonl

    def rankings() -> Iterator[Any]:
        for file in files:
            yield from read_jsonl(file)

    with taught_errors():
        if output.exists():
            raise InputError(f"{output} exists: choose another folder, or remove it first.")
        typer.echo(f"{output}: {write_collection(rankings(), output):,} rankings")


@app.command()
def validate(files: Annotated[list[Path], typer.Argument(help="JSON Lines files of rankings.")]) -> None:
    """Check files and write nothing; every wrong line is named with what is wrong in it."""
    from data.comparisons.jsonl import read_jsonl

    with taught_errors():
        for file in files:
            typer.echo(f"{file}: {sum(1 for _ in read_jsonl(file)):,} rankings, all valid")


@app.command()
def export(
    collection: Collection,
    output: Annotated[Path, typer.Option(help="JSON Lines file to write.")],
) -> None:
    """Write a collection as JSON Lines; importing the file gives an equal collection."""
    from data.comparisons.collection import rankings, read_collection
    from data.comparisons.jsonl import write_jsonl

    with taught_errors():
        typer.echo(f"{output}: {write_jsonl(rankings(read_collection(collection)), output):,} rankings")


@app.command()
def stats(collection: Collection) -> None:
    """Print counts of a collection as JSON: rankings, K, comparisons, ties, labelers, origins."""
    from data.comparisons.collection import read_collection, statistics

    with taught_errors():
        typer.echo(json.dumps(statistics(read_collection(collection)), indent=2, ensure_ascii=False))
