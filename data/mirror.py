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


def require(name: str) -> Path:
    """As `folder`, for data that only a mirror has: raises InputError with the remedy when it is not there."""
    found = folder(name)
    if found is None:
        where = f"{root()} has no folder '{name}'" if root() else f"{VARIABLE} is not set"
        raise InputError(
            f"corpus '{name}': {where}. Set {VARIABLE} to a data mirror that holds '{name}/' "
            f"(export {VARIABLE}=/path/to/mirror), or choose another corpus (gradus use default)."
        )
    return found
