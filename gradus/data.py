"""`gradus data`: public data sets from their authors into the data mirror."""

from pathlib import Path
from typing import Annotated

import typer

from core.errors import InputError
from data import mirror
from data.originals.table import ORIGINALS, Original
from gradus.errors import taught_errors

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Fetch public data sets into the data mirror, the folder that GRADUS_DATA names.

    Some experiments read data that are not part of this project. Their authors publish them, each under terms of its own.""",
)

Output = Annotated[
    Path | None,
    typer.Option(help="Folder of the mirror. Left out: the one that GRADUS_DATA names. It is created if needed."),
]
SETS = "\n".join(f"    - `{name}`: {original.what}" for name, original in ORIGINALS.items())


@app.command(
    help=f"""Download the originals of public data sets, and write what the pipeline reads.

    Every file comes over https, and its SHA-256 is checked. The folder of a data set appears at once, or not at all.
    Beside the data, `originals.json` says what they were made from, and their terms. Behind a proxy, set HTTPS_PROXY.

{SETS}

    Example: `gradus data fetch multi30k --output ~/data`"""
)
def fetch(
    names: Annotated[list[str], typer.Argument(help="Names of data sets.")],
    output: Output = None,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Replace a folder that exists.")] = False,
) -> None:
    from data.originals import fetching

    with taught_errors():
        folder = _mirror(output)
        fetching.check(names, folder, force)
        for name in names:
            fetched = fetching.fetch(name, folder)
            facts = "  ".join(f"{fact.replace('_', ' ')} {count:,}" for fact, count in fetched.counts.items())
            typer.echo(f"{fetched.folder}: {facts}")
            for note in fetched.notes:
                typer.echo(f"note: {note}")
            typer.echo(_terms(ORIGINALS[name]))
        if _named() != folder:
            typer.echo(f"To use it: export {mirror.VARIABLE}={folder}")


@app.command("list")
def list_() -> None:
    """List the data sets that `fetch` knows: their terms, their files and whether the mirror has them."""
    with taught_errors():
        folder = _named()
        for name, original in ORIGINALS.items():
            present = folder is not None and (folder / name).is_dir()
            typer.echo(f"{name}: {original.what}" + (f"\n  in {folder}" if present else ""))
            typer.echo(_terms(original))
            for file in original.files:
                size = f"{file.size:,} bytes" if file.size else "size not known"
                typer.echo(f"  {file.address}  {size}  SHA-256 {file.sha256 or 'not published'}")


def _terms(original: Original) -> str:
    return f"  licence: {original.licence}\n  cite: {original.cite}\n  source: {original.page}"


def _mirror(output: Path | None) -> Path:
    """The folder to write into, which need not exist.

    Raises:
        InputError: nothing names one.
    """
    folder = output.expanduser().resolve() if output else _named()
    if folder is None:
        raise InputError(f"No folder is named. Name one with --output, or in {mirror.VARIABLE}.")
    return folder


def _named() -> Path | None:
    named = mirror.place()
    return named[0] if named else None
