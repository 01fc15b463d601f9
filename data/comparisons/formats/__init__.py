"""Import formats, one file each; and published data sets that are tables, rows of `importing.presets`.

A format is a module here with `PAIRS` (whether its rankings are pairs, to be joined per prompt and labeler where they agree) and
`rankings(record)`, which turns one record of the export into the values of canonical records, or raises ValueError with one line that says
what is wrong. `LINE_IS_ID = True` lets the line tell judgments apart, where the export gives them no id of their own.
`TAKES_HIGHER_IS_BETTER = True` says that `rankings(record, higher_is_better)` can be told that the highest number in the export is the
best, where the export itself does not say. `annotations(record)` gives the answers to all questions, for a mapping of columns
(`importing.annotations`). A format's name is its file's; the first line of its docstring is what
`gradus comparisons import --help` says of it.
"""

import ast
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from core.errors import InputError
from data.comparisons.importing.presets import PRESETS

AUTO = "auto"  # not a module: canonical records


class Format(Protocol):
    """What a module of this package has."""

    @property
    def PAIRS(self) -> bool: ...

    def rankings(self, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The rankings in one record of an export, without `origin`."""
        ...


def names() -> list[str]:
    """Names of all formats: the modules of this package, and the published data sets."""
    return sorted([*_modules(), *PRESETS])


def get(name: str) -> Format:
    """The format called `name`. Raises InputError, with the nearest name, when there is none."""
    if name not in names():
        from core.config import nearest  # not above: pydantic is slow to import, and `--help` lists the formats

        raise InputError(f"format {name!r} is unknown - {nearest(name, [AUTO, *names()])}")
    if name in PRESETS:
        from data.comparisons.importing.columns import Columns

        return Columns.model_validate(PRESETS[name].columns)
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))


def taking_higher_is_better() -> list[str]:
    """Names of the formats whose `rankings` can be told that the highest number is the best."""
    return [name for name in _modules() if getattr(get(name), "TAKES_HIGHER_IS_BETTER", False)]


def with_annotations() -> list[str]:
    """Names of the formats whose questions a mapping of columns can read."""
    return [name for name in _modules() if hasattr(get(name), "annotations")]


def described() -> dict[str, str]:
    """What each format is: the first line of its docstring, read without importing it; of a data set what its row says."""
    lines = {name: preset.what for name, preset in PRESETS.items()}
    for name in _modules():
        source = (Path(__path__[0]) / f"{name}.py").read_text(encoding="utf-8")
        lines[name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return dict(sorted(lines.items()))


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__)]
