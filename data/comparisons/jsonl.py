"""Rankings as JSON Lines: one record of `data.comparisons.ranking.Ranking` a line."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from data.comparisons.ranking import Ranking, ranking
from data.errors import InputError
from data.folders import finished_file

MAX_ERRORS = 20  # shown at once


def read_jsonl(path: Path) -> Iterator[Ranking]:
    """The rankings of a file, line by line; blank lines are skipped. `origin` may be left out: it is then the file's name.

    Raises:
        InputError: after the last line, if any line was wrong; names each (up to 20) as `file:line: field: what was found`.
    """
    errors: list[str] = []
    count = 0
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                count += 1
                try:
                    yield ranking(_record(line, path.name))
                except ValueError as error:
                    errors.append(f"{path}:{number}: {error}")
                    if len(errors) >= MAX_ERRORS:
                        errors.append("(further lines not read)")
                        break
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    if errors:
        raise InputError("\n".join([*errors, "Nothing was imported. Mend or remove these lines and import again."]))
    if not count:
        raise InputError(
            f"{path}: the file is empty. Put one ranking on each line (see gradus comparisons import --help)."
        )


def _record(line: bytes, origin: str) -> object:
    try:
        values = json.loads(line.decode("utf-8"), parse_constant=_reject_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return {"origin": origin, **values} if isinstance(values, dict) else values


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number: ranks are whole numbers from 1")


def write_jsonl(rankings: Iterable[Ranking], path: Path) -> int:
    """Writes a file that `read_jsonl` reads back to equal records; it appears when it is complete."""
    count = 0
    with finished_file(path) as partial, open(partial, "w", encoding="utf-8") as file:
        for record in rankings:
            count += 1
            file.write(record.model_dump_json(exclude_none=True) + "\n")
    return count
