"""Where raw data comes from: a local mirror (`GRADUS_DATA`) first, the Hugging Face hub second."""

import os
from pathlib import Path

from data.errors import InputError

VARIABLE = "GRADUS_DATA"


def root() -> Path | None:
    """The mirror's folder, or None when `GRADUS_DATA` is not set. Raises InputError when it is set to no folder."""
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    path = Path(value).expanduser().resolve()
    if not path.is_dir():
        raise InputError(
            f"{VARIABLE}={value}: no such folder. Set it to a data mirror (a folder with e.g. multi30k/ in it)."
        )
    return path


def folder(name: str) -> Path | None:
    """The mirror's folder for the data set `name`, or None when there is no mirror or it lacks this data set."""
    base = root()
    return base / name if base and (base / name).is_dir() else None
