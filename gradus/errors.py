"""How every command tells a user what to put right."""

import contextlib
import sys
from collections.abc import Iterator

import typer

from core.errors import InputError


@contextlib.contextmanager
def taught_errors() -> Iterator[None]:
    """Prints an InputError, or an error of the file system, without a traceback and exits with code 2."""
    try:
        yield
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        raise typer.Exit(1) from None
    except OSError as error:  # a full disk, a folder that may not be written
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {where}{error.strerror or error}.", err=True)
        raise typer.Exit(2) from None
