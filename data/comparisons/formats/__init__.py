"""Import formats, one file each.

A format is a module here with `PAIRS` (whether its rankings are pairs, to be joined per prompt and labeler where they agree) and
`rankings(record)`, which turns one record of the export into the values of canonical records, or raises ValueError with one line that says
what is wrong. `LINE_IS_ID = True` lets the line tell judgments apart, where the export gives them no id of their own.
`TAKES_HIGHER_IS_BETTER = True` says that `rankings(record, higher_is_better)` can be told that the highest number in the export is the
best, where the export itself does not say. A format's name is its file's; the first line of its docstring is what
`gradus comparisons import --help` says of it.
"""

import ast
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from core.errors import InputError

AUTO = "auto"  # not a module: canonical records


class Format(Protocol):
    """What a module of this package has."""

    @property
    def PAIRS(self) -> bool: ...

    def rankings(self, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The rankings in one record of an export, without `origin`."""
        ...


def names() -> list[str]:
    """Names of all formats: the modules of this package."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def get(name: str) -> Format:
    """The format called `name`. Raises InputError, with the nearest name, when there is none."""
    if name not in names():
        from core.config import nearest  # not above: pydantic is slow to import, and `--help` lists the formats

        raise InputError(f"format {name!r} is unknown - {nearest(name, [AUTO, *names()])}")
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))


def taking_higher_is_better() -> list[str]:
    """Names of the formats whose `rankings` can be told that the highest number is the best."""
    return [name for name in names() if getattr(get(name), "TAKES_HIGHER_IS_BETTER", False)]


def described() -> dict[str, str]:
    """The first line of each format's docstring, read without importing it."""
    lines = {}
    for name in names():
        source = (Path(__path__[0]) / f"{name}.py").read_text(encoding="utf-8")
        lines[name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return lines
