"""What dvc.yaml declares of a stage: the settings and files its result depends on, read here for tracking, resume and the final check."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from core.config import dotted, read_yaml
from core.folders import content_hash
from stages.framework import layout
from stages.framework.warm_start import init_folder

GRAPH = Path("dvc.yaml")
ONE_LINE = {"corpus": "name", "tokenizer": "kind"}  # sections of one line, and the field that has its key


class Dependencies(NamedTuple):
    """All that a stage's result depends on, at one moment."""

    settings: dict[str, Any]  # by dotted name; None where params.yaml no longer has it
    digests: dict[str, str]  # content hash by path, of the files and folders that exist

    def differences(self, later: "Dependencies") -> Iterator[str]:
        """A line for each setting, file and folder that is another one later."""
        before, after = (dict(dotted(values)) for values in (self.settings, later.settings))
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                yield f"params.yaml: {name} (was {before.get(name)!r}, is {after.get(name)!r})"
        for path in sorted(self.digests.keys() | later.digests.keys()):
            if self.digests.get(path) != later.digests.get(path):
                yield path if path in later.digests else f"{path} (is gone)"


def dependencies(stage: str, item: str | None, params: Any) -> Dependencies:
    """What the stage depends on now, with the settings of `params`."""
    names, files = declared(stage, item, params)
    if (earlier := init_folder(stage, item, params)) and earlier not in files:
        files.append(earlier)
    return Dependencies(
        {name: value(params, name) for name in names},
        {str(path): _digest(path) for path in files if path.exists()},
    )


def _digest(path: Path) -> str:
    """The content hash of a dependency. All of artifacts/ is the report's, which reads what was measured and no weights."""
    return content_hash(*sorted(path.rglob("*.json"))) if path == layout.ARTIFACTS else content_hash(path)


def declared(stage: str, item: str | None, params: Any) -> tuple[list[str], list[Path]]:
    """Parameters (dotted) and dependencies of a stage, with the values that dvc puts in: `${key}`, `${item.KEY}`, `${SECTION.KEY}`."""
    entry = read_yaml(GRAPH.read_text(encoding="utf-8"))["stages"][stage]
    items = str(entry.get("foreach", ""))[2:-1]
    entry = entry.get("do", entry)

    def filled(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "key":
            return item or ""
        return str(value(params, f"{items}.{item}{name.removeprefix('item')}" if name.startswith("item.") else name))

    names, files = (
        [re.sub(r"\$\{([^}]+)\}", filled, text) for text in entry.get(kind, [])] for kind in ("params", "deps")
    )
    return names, [Path(file) for file in files]


def lines(params: Any, section: str) -> list[str]:
    """The items of a section: the keys of a mapping, or the key of the one line that the section has."""
    config = value(params, section)
    if config is None:
        return []
    return [config[ONE_LINE[section]]] if section in ONE_LINE else list(config)


def value(params: Any, name: str) -> Any:
    """The value of a dotted parameter name, as plain data; None of an item that params.yaml does not have."""
    for part in name.split("."):
        params = params.get(part) if isinstance(params, Mapping) else getattr(params, part, None)
    return _plain(params)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value
