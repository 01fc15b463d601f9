"""How every command tells a user what to put right."""

import contextlib
import sys
from collections.abc import Iterator

import typer

from data.errors import InputError


@contextlib.contextmanager
def taught_errors() -> Iterator[None]:
    """Prints an InputError without a traceback and exits with code 2."""
    try:
        yield
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        raise typer.Exit(1) from None
