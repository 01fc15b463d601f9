"""JSON Lines of canonical records: reading one line fast, and writing files, whole or as pairs for other trainers."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from core.folders import finished_file
from data.comparisons.ranking import Ranking, ranking


def parse_ranking(line: bytes, origin: str) -> Ranking:
    """The canonical record on a line; `origin` is its origin unless it has one.

    Raises:
        ValueError: one line that says where the line is not UTF-8 or not JSON, or names its wrong fields.
    """
    line = line.strip()
    # pydantic parses and validates in one go. Of two equal keys the last counts, so the record's own origin does.
    named = b'{"origin":%b,%b' % (json.dumps(origin).encode(), line[1:]) if line.startswith(b"{") else line
    try:
        return Ranking.model_validate_json(named)
    except ValidationError:  # now slowly, for the reason
        values = parse_record(line)
        return ranking(values if values.get("origin") else {**values, "origin": origin})


def parse_record(line: bytes) -> dict[str, Any]:
    """The JSON object on a line. Raises ValueError: not UTF-8 (with the byte), not JSON (with the column), NaN, no object."""
    try:
        values = from_json(line, allow_inf_nan=False)
    except ValueError:
        values = _explained(line)
    if not isinstance(values, dict):
        raise ValueError("a JSON object expected")
    return values


def _explained(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"), parse_constant=_reject_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number: ranks are whole numbers from 1")


def write_jsonl(rankings: Iterable[Ranking], path: Path) -> int:
    """Writes a file that an import reads back to equal records; it appears when it is complete. Returns the number of lines."""
    return _write((record.model_dump_json(exclude_none=True) for record in rankings), path)


def write_pairs(rankings: Iterable[Ranking], path: Path) -> int:
    """Writes every strict comparison as a line of `prompt`, `chosen`, `rejected`, `labeler`, `weight` and `margin`, the rank distance.

    This is the explicit-prompt preference format of TRL (https://huggingface.co/docs/trl/dataset_formats#preference).
    """
    return _write((json.dumps(pair, ensure_ascii=False) for record in rankings for pair in pairs(record)), path)


def pairs(record: Ranking) -> Iterator[dict[str, Any]]:
    """The strict comparisons of a ranking; ties and responses that were not ranked are in none."""
    ranked = [(r, text) for r, text in zip(record.ranks, record.responses, strict=True) if r is not None]
    for better, chosen in ranked:
        for worse, rejected in ranked:
            if better < worse:
                yield {
                    "prompt": record.prompt, "chosen": chosen, "rejected": rejected,
                    "labeler": record.labeler, "weight": record.weight, "margin": worse - better,
                }  # fmt: skip


def _write(lines: Iterable[str], path: Path) -> int:
    count = 0
    with finished_file(path) as partial, open(partial, "w", encoding="utf-8") as file:
        for line in lines:
            count += 1
            file.write(line + "\n")
    return count
