"""`gradus comparisons`: import, check, label and export rankings."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from core.errors import InputError
from data.comparisons import formats
from data.comparisons.importing.presets import PRESETS
from gradus.errors import taught_errors

if TYPE_CHECKING:
    from data.comparisons.importing.reading import NewBar
    from data.comparisons.importing.source import Source

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Import, check, label and export rankings of responses. A folder of rankings is a comparison collection.

    A ranking is one JSON object on a line:

        {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "labeler": "ann"}

    It has two or more different responses. Rank 1 is the best, equal ranks are ties, null is a response that was not ranked.
    Optional keys: `messages` (a chat instead of the prompt), `origin`, `reference`, `systems` (a list of names for each response),
    `time` (ISO 8601), `weight` and `id`.""",
)

FORMATS, DATA_SETS = (
    "\n".join(f"    - `{name}`: {what}" for name, what in formats.described().items() if (name in PRESETS) is published)
    for published in (False, True)
)
HOW_TO_READ = f"""

    **Sources** are files: JSON Lines (.jsonl, .ndjson), a JSON array (.json), CSV with a header (.csv), each also with .gz, .xz or .zst,
    or .parquet.
    `hub:OWNER/NAME:SPLIT` or `hub:OWNER/NAME:CONFIG:SPLIT` is a data set of the Hugging Face hub or of the data mirror.

    **Formats** (`--format`): without this option, records look as `gradus comparisons --help` shows (in CSV, lists are JSON).

{FORMATS}

    Published data sets, also by `--format`, as their cards describe them:

{DATA_SETS}

    **Any other table** (`--columns`): say which column each field is read from.

    - Pairs: `prompt=question,chosen=answer_a,rejected=answer_b`
    - The winner's name in a column: `prompt=p,responses=a+b,winner=better{{a=model_a,b=model_b,tie=tie|both bad,skip=unsure}}`
    - A signed strength, negative where a is better: `prompt=p,responses=a+b,strength=preference`
    - One column for each response: `prompt=p,responses=a+b+c,ranks=ra+rb+rc`. Rank 1 is the best; with `scores`, the highest is.
    - One row for each response, sorted by prompt: `prompt=p,response=answer,scores=rating`
    - Lists: `prompt=p,responses=completions,scores=rating`
    - `meta.user` is inside a nested column. `labeler==gpt-4` is one text for all rows.

    A JSON object with these keys and more is accepted, too. Beside `--format argilla` or `label_studio`, the columns are fields and questions.

    Prompt and responses are texts or lists of messages (`role`, `content`). The last message of such a list is the response, and the turns
    before it belong to the prompt. A row is refused if its responses differ in these turns (without `whole_conversations=true`), or if
    anything in the messages would be lost.
"""

Collection = Annotated[Path, typer.Argument(help="Folder of a collection, e.g. artifacts/comparisons/ours/rankings.")]
Files = Annotated[list[str], typer.Argument(help="Files, or hub:OWNER/NAME:SPLIT.")]
Format = Annotated[
    str, typer.Option("--format", help="How the records are written: auto, or the name of a format or data set.")
]
Columns = Annotated[str | None, typer.Option("--columns", help="Which column each field is read from.")]
HigherIsBetter = Annotated[
    bool,
    typer.Option(
        "--higher-is-better",
        metavar="",
        help="Only with label_studio: the buckets' names end in scores, and the highest is the best (score_5, 5). Left out: rank_1 is the best.",
    ),
]
Report = Annotated[Path | None, typer.Option("--report", help="JSON file to write: every dropped record, and why.")]


class ExportFormat(StrEnum):
    """What `export` writes."""

    jsonl = "jsonl"
    pairs = "pairs"


@app.command(
    "import",
    help=f"""Add the rankings of files to a collection. A collection that does not exist is created.

    A wrong record is dropped and named, and the others are imported; with --strict, nothing is imported. Rankings that the collection
    already has are not added again, so a file that has grown can be imported again. The same command continues an import that was
    stopped. For people's rankings in the pipeline, put JSON Lines into labeled/, or name any source under comparisons.NAME.imports in
    params.yaml.

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
    from data.comparisons.importing.rankings import import_rankings

    with taught_errors():
        sources = _sources(files, format, columns, higher_is_better)
        result = import_rankings(sources, output, strict, _bar("import"))
        if report:
            _write(report, result.model_dump())
        for problem in result.problems():
            typer.echo(problem, err=True)
        facts = "  ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in result.counts().items() if count)
        typer.echo(f"{output}: {result.kept:,} rankings added ({facts})")


@app.command(
    help=f"""Check files of rankings, and write nothing. Every wrong record is named, with what is wrong in it (exit code 2).

    Example: `gradus comparisons validate rankings.jsonl`
    {HOW_TO_READ}"""
)
def validate(
    files: Files,
    format: Format = formats.AUTO,
    columns: Columns = None,
    higher_is_better: HigherIsBetter = False,
    report: Report = None,
) -> None:
    from data.comparisons.importing.rankings import check_rankings

    with taught_errors():
        result = check_rankings(_sources(files, format, columns, higher_is_better), _bar("validate"))
        if report:
            _write(report, result.model_dump())
        for contradiction in result.contradictions:
            typer.echo(contradiction)
        if result.dropped:
            raise InputError("\n".join(result.problems()))
        typer.echo(f"{', '.join(files)}: {result.kept:,} rankings, all valid")


@app.command()
def export(
    collection: Collection,
    output: Annotated[Path, typer.Option(help="JSON Lines file to write.")],
    format: Annotated[
        ExportFormat, typer.Option(help="Whole rankings, or their comparisons (pairs).")
    ] = ExportFormat.jsonl,
) -> None:
    """Write a collection as JSON Lines.

    `jsonl` writes whole rankings; importing the file gives an equal collection. `pairs` writes every comparison as `prompt`,
    `chosen`, `rejected`, `labeler`, `weight` and `margin` (the rank distance), which TRL and others read. It leaves out ties.

    Example: `gradus comparisons export artifacts/comparisons/ours/rankings --output pairs.jsonl --format pairs`
    """
    from data.comparisons.collection import rankings, read_collection
    from data.comparisons.jsonl import write_jsonl, write_pairs

    with taught_errors():
        write, what = (write_jsonl, "rankings") if format is ExportFormat.jsonl else (write_pairs, "pairs")
        typer.echo(f"{output}: {write(rankings(read_collection(collection)), output):,} {what}")


@app.command()
def stats(collection: Collection) -> None:
    """Print a collection's numbers as JSON: rankings, K, comparisons, ties, labelers, origins, agreement between labelers.

    Example: `gradus comparisons stats artifacts/comparisons/ours/rankings`
    """
    from data.comparisons.collection import read_collection
    from metrics.collection_statistics import statistics

    with taught_errors():
        typer.echo(json.dumps(statistics(read_collection(collection)), indent=2, ensure_ascii=False))


@app.command()
def tasks(
    source: Annotated[
        str,
        typer.Argument(
            help="A file of prompts and responses (any type that `import` reads), or a collection's folder."
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
        typer.Option(help="ranker: all responses to a prompt in one task, with ties. pairwise: a task for every two."),
    ] = "ranker",
) -> None:
    """Make tasks for people to rank responses in Label Studio, and the labeling configuration of their project.

    A record is `{"prompt": "p", "responses": ["a", "b", "c"]}`, with 2 to 9 responses; `messages`, `reference` and `systems` are optional.
    Labelers see the prompt and the responses, in random order. The other fields come back with the export, which
    `gradus comparisons import export.json --format label_studio --output rankings` reads.

    Example: `gradus comparisons tasks responses.jsonl --output tasks.json`
    """
    from data.comparisons.labeling import write_tasks

    with taught_errors():
        config = config or output.with_name("labeling_config.xml")
        prompts, count = write_tasks(source, output, config, template, seed)
        typer.echo(f"{output}: {count:,} tasks for {prompts:,} prompts, {config}: their labeling configuration")


def _sources(files: list[str], format: str, columns: str | None, higher_is_better: bool) -> "list[Source]":
    from core.config import validated
    from data.comparisons.importing.columns import parse_columns
    from data.comparisons.importing.source import Source

    mapping = parse_columns(columns) if columns else None
    options = {"format": format, "columns": mapping, "higher_is_better": higher_is_better}
    return [validated(Source, {"source": file, **options}, "import") for file in files]


def _bar(title: str) -> "NewBar":
    from core.progress import Progress

    return lambda total: Progress(title, total)


def _write(path: Path, values: object) -> None:
    from core.folders import finished_file

    with finished_file(path) as partial:
        partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
