"""How every command tells a user what to put right."""

import contextlib
import sys
import tempfile
import traceback
from collections.abc import Iterator

import typer
from typer.exceptions import TyperException

from core.errors import InputError

SAID = 300  # characters of an error that nobody foresaw


@contextlib.contextmanager
def taught_errors() -> Iterator[None]:
    """Prints an InputError, or an error of the file system, without a traceback and exits with code 2.

    Any other error is one line, too, with exit code 1: its traceback is in a file that the line names.
    """
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
    except (typer.Exit, typer.Abort, TyperException):
        raise
    except Exception as error:
        handle, path = tempfile.mkstemp(prefix="gradus-error-", suffix=".txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            traceback.print_exc(file=file)
        said = " ".join(str(error).split())[:SAID]
        typer.echo(f"error: {type(error).__name__}: {said} (not foreseen; the traceback is in {path})", err=True)
        raise typer.Exit(1) from None
