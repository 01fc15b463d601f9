"""`gradus comparisons`: collections of rankings by hand."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import InputError
from data.comparisons import formats
from gradus.errors import taught_errors
from gradus.labeling import tasks

if TYPE_CHECKING:
    from data.comparisons.importing import NewBar, Source

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Import, check and export comparison collections.

    A ranking is one JSON object on a line:

        {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "labeler": "ann"}

    K >= 2 different responses; rank 1 is best, equal ranks are ties, null is "not ranked". `messages` (a chat prompt), `origin`,
    `reference`, `systems` (a list of names for each response), `time` (ISO 8601), `weight` and `id` may be given.""",
)

FORMATS = "\n".join(f"    - `{name}`: {what}" for name, what in formats.described().items())
HOW_TO_READ = f"""

    **Sources**: JSON Lines (.jsonl), a JSON array (.json) or CSV with a header (.csv), each also with .gz; .parquet;
    `hub:OWNER/NAME:SPLIT` or `hub:OWNER/NAME:CONFIG:SPLIT` for a data set of the Hugging Face hub or of the data mirror.

    **Formats** (`--format`): without one, records are as `gradus comparisons --help` shows them (lists in CSV cells as JSON).

{FORMATS}

    **Any other table** (`--columns`): which column each field is read from, for pairs
    `prompt=question,chosen=answer_a,rejected=answer_b`, for lists `prompt=p,responses=completions,scores=rating` (higher is
    better; `ranks` where 1 is), for one column each `prompt=p,responses=a+b+c,ranks=ra+rb+rc`. `meta.user` is inside a nested
    column, `labeler==gpt-4` a text for all rows. Also as a JSON object. Prompt and responses are texts or lists of messages
    (`role`, `content`): the last message of a response is the response, the turns before it are the prompt's. A row is refused if
    the responses differ in these turns, or if anything in the messages would be lost.
"""

Collection = Annotated[Path, typer.Argument(help="Folder of a collection, e.g. artifacts/comparisons/rankings.")]
Files = Annotated[list[str], typer.Argument(help="Files, or hub:OWNER/NAME:SPLIT.")]
Format = Annotated[str, typer.Option("--format", help="How the records are written: auto or a format's name.")]
Columns = Annotated[str | None, typer.Option("--columns", help="Which column each field is read from.")]
HigherIsBetter = Annotated[
    bool,
    typer.Option(
        "--higher-is-better",
        metavar="",
        help="Of label_studio: buckets' names end in scores, the highest best (score_5, 5). Left out: rank_N, 1 the best.",
    ),
]
Report = Annotated[Path | None, typer.Option("--report", help="JSON file to write: every dropped record, and why.")]


class ExportFormat(StrEnum):
    """What `export` writes."""

    jsonl = "jsonl"
    pairs = "pairs"


@app.command(
    "import",
    help=f"""Add the rankings of files to a collection, which is made if it is not there.

    A wrong record is dropped and named, the others are imported; with --strict nothing is. What the collection holds already
    is not added again, so a file may be imported again when it has grown. An import that was stopped goes on with the same
    command. To have people's rankings in the pipeline, put JSON Lines into labeled/, or name any source under
    comparisons.imports in params.yaml.

    Example: `gradus comparisons import export.json --format label_studio --output rankings`
    {HOW_TO_READ}""",
)
def import_(
    files: Files,
    output: Annotated[Path, typer.Option(help="Folder of the collection.")],
    format: Format = formats.AUTO,
    columns: Columns = None,
    higher_is_better: HigherIsBetter = False,
    strict: Annotated[
        bool, typer.Option("--strict", metavar="", help="Import nothing if any record is wrong.")
    ] = False,
    report: Report = None,
) -> None:
    from data.comparisons.importing import import_rankings

    with taught_errors():
        sources = _sources(files, format, columns, higher_is_better)
        made = import_rankings(sources, output, strict, _bar("import"))
        if report:
            _write(report, made.model_dump())
        for problem in made.problems():
            typer.echo(problem, err=True)
        facts = "  ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in made.counts().items() if count)
        typer.echo(f"{output}: {made.kept:,} rankings added ({facts})")


@app.command(
    help=f"""Check files and write nothing; every wrong record is named with what is wrong in it (exit code 2).
    {HOW_TO_READ}"""
)
def validate(
    files: Files,
    format: Format = formats.AUTO,
    columns: Columns = None,
    higher_is_better: HigherIsBetter = False,
    report: Report = None,
) -> None:
    from data.comparisons.importing import check_rankings

    with taught_errors():
        found = check_rankings(_sources(files, format, columns, higher_is_better), _bar("validate"))
        if report:
            _write(report, found.model_dump())
        for contradiction in found.contradictions:
            typer.echo(contradiction)
        if found.dropped:
            raise InputError("\n".join(found.problems()))
        typer.echo(f"{', '.join(files)}: {found.kept:,} rankings, all valid")


@app.command()
def export(
    collection: Collection,
    output: Annotated[Path, typer.Option(help="JSON Lines file to write.")],
    format: Annotated[
        ExportFormat, typer.Option(help="Whole rankings, or their strict comparisons.")
    ] = ExportFormat.jsonl,
) -> None:
    """Write a collection as JSON Lines.

    `jsonl`: whole rankings; importing the file gives an equal collection. `pairs`: every strict comparison as `prompt`,
    `chosen`, `rejected`, `labeler`, `weight` and `margin` (the rank distance), which TRL and others read; ties get lost.
    """
    from data.comparisons.collection import rankings, read_collection
    from data.comparisons.jsonl import write_jsonl, write_pairs

    with taught_errors():
        write, what = (write_jsonl, "rankings") if format is ExportFormat.jsonl else (write_pairs, "pairs")
        typer.echo(f"{output}: {write(rankings(read_collection(collection)), output):,} {what}")


@app.command()
def stats(collection: Collection) -> None:
    """Print a collection in numbers, as JSON: rankings, K, comparisons, ties, labelers, origins, agreement between labelers."""
    from data.comparisons.collection import read_collection
    from metrics.collections.statistics import statistics

    with taught_errors():
        typer.echo(json.dumps(statistics(read_collection(collection)), indent=2, ensure_ascii=False))


app.command()(tasks)


def _sources(files: list[str], format: str, columns: str | None, higher_is_better: bool) -> "list[Source]":
    from core.config import validated
    from data.comparisons.columns import parse_columns
    from data.comparisons.importing import Source

    chosen = parse_columns(columns) if columns else None
    options = {"format": format, "columns": chosen, "higher_is_better": higher_is_better}
    return [validated(Source, {"source": file, **options}, "import") for file in files]


def _bar(title: str) -> "NewBar":
    from core.progress import Progress

    return lambda total: Progress(title, total)


def _write(path: Path, values: object) -> None:
    from core.folders import finished_file

    with finished_file(path) as partial:
        partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
