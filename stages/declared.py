"""What dvc.yaml declares of a stage: the settings and files its result depends on, read here for tracking and for resume."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

GRAPH = Path("dvc.yaml")


def declared(stage: str, item: str | None) -> tuple[list[str], list[Path]]:
    """Parameters (dotted) and dependencies of a stage, with `item` put in where dvc.yaml says `${key}`."""
    entry = yaml.safe_load(GRAPH.read_text(encoding="utf-8"))["stages"][stage]
    entry = entry.get("do", entry)
    names, files = ([text.replace("${key}", item or "") for text in entry.get(kind, [])] for kind in ("params", "deps"))
    return names, [Path(file) for file in files]


def value(params: Any, name: str) -> Any:
    """The value of a dotted parameter name, as plain data."""
    for part in name.split("."):
        params = params[part] if isinstance(params, Mapping) else getattr(params, part)
    return _plain(params)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value
