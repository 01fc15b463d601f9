"""Where raw data comes from: a local mirror (`GRADUS_DATA`) first, the Hugging Face hub second."""

import os
from pathlib import Path

from core.errors import InputError
from core.folders import finished_file

VARIABLE = "GRADUS_DATA"
REMEMBERED = Path(".gradus/mirror")  # written by `gradus use`, read where the variable is not set


def place() -> tuple[Path, str] | None:
    """The mirror's folder, whether it exists or not, and what names it: `GRADUS_DATA`, else the remembered place, else None."""
    value = os.environ.get(VARIABLE)
    source = VARIABLE
    if not value and REMEMBERED.is_file():
        value, source = REMEMBERED.read_text(encoding="utf-8").strip(), str(REMEMBERED)
    return (Path(value).expanduser().resolve(), f"{source}={value}") if value else None


def root() -> Path | None:
    """The mirror's folder, None where nothing names one.

    Raises:
        InputError: the folder does not exist.
    """
    named = place()
    if named is None:
        return None
    path, source = named
    if not path.is_dir():
        raise InputError(
            f"{source}: no such folder. Set {VARIABLE} to a data mirror (a folder with e.g. multi30k/ in it); "
            "`gradus data fetch` makes one."
        )
    return path


def remember() -> Path | None:
    """Keeps the mirror of `GRADUS_DATA` for later commands in this project, and returns it; None when it is not set."""
    if not os.environ.get(VARIABLE):
        return None
    path = root()
    with finished_file(REMEMBERED) as partial:
        partial.write_text(f"{path}\n", encoding="utf-8")
    return path


def folder(name: str) -> Path | None:
    """The mirror's folder for the data set `name`, or None when there is no mirror or it lacks this data set."""
    base = root()
    return base / name if base and (base / name).is_dir() else None
