"""Named settings: experiments/default.yaml is everything, the other files override parts of it."""

import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from core.config import nearest
from core.errors import InputError
from core.format_1 import FORMAT, converted, format_of

FOLDER = Path("experiments")
PARAMS = Path("params.yaml")
DEFAULT = "default"
# Keys whose mapping is a choice as a whole: an experiment that has one replaces the default's.
REPLACED = {"corpus", "architectures", "tasks", "variants"}

_yaml = YAML()
_yaml.width = 10_000
_yaml.preserve_quotes = True


def names() -> list[str]:
    """All experiments, the default first."""
    found = sorted(p.stem for p in FOLDER.glob("*.yaml"))
    if DEFAULT not in found:
        raise InputError(f"{FOLDER / DEFAULT}.yaml: no such file. Run from the project's folder.")
    return [DEFAULT, *(n for n in found if n != DEFAULT)]


def listing() -> str:
    """Every experiment with what its file says of it; the one that params.yaml holds is marked."""
    current = load(PARAMS.read_text(encoding="utf-8"), PARAMS) if PARAMS.exists() else None
    lines = []
    for name in names():
        about = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        lines.append(f"{'*' if load(rendered(name), FOLDER) == current else ' '} {name:16} {about}")
    return "\n".join([*lines, "Choose one: gradus use NAME"])


def current() -> str:
    """The name of the experiment that params.yaml says it holds, with "+edits" where its values are not (or no longer) the file's."""
    text = PARAMS.read_text(encoding="utf-8") if PARAMS.exists() else ""
    written_for = re.match(r"# Experiment '([^']+)'", text)
    name = written_for.group(1) if written_for else DEFAULT
    try:
        same = load(text, PARAMS) == load(rendered(name), FOLDER)
    except InputError:
        same = False
    return name if same else f"{name}+edits"


def has_other_values() -> bool:
    """Whether params.yaml exists and no experiment has its values."""
    if not PARAMS.exists():
        return False
    values = load(PARAMS.read_text(encoding="utf-8"), PARAMS)
    return all(values != load(rendered(name), FOLDER) for name in names())


def rendered(name: str) -> str:
    """The text of params.yaml for an experiment: the default with its comments, and the experiment's values over it."""
    if name not in names():
        raise InputError(f"experiment '{name}': no file {FOLDER / name}.yaml - {nearest(name, names())}")
    text = (FOLDER / f"{DEFAULT}.yaml").read_text(encoding="utf-8")
    if name == DEFAULT:
        return text
    path = FOLDER / f"{name}.yaml"
    base, values = load(text, FOLDER / f"{DEFAULT}.yaml"), load(path.read_text(encoding="utf-8"), path)
    if format_of(values, str(path)) < FORMAT:
        values = {**converted(values), "format": FORMAT}
    _override(base, values)
    out = io.StringIO()
    _yaml.dump(base, out)
    return (
        f"# Experiment '{name}' ({path} over {FOLDER / DEFAULT}.yaml), written by `gradus use {name}`.\n"
        + out.getvalue().split("\n", 2)[2]
    )


def _override(base: Any, values: Any) -> None:
    for key, value in values.items():
        if key in REPLACED or not (isinstance(value, dict) and isinstance(base.get(key), dict)):
            base[key] = value
        else:
            _override(base[key], value)


def load(text: str, path: Path) -> Any:
    """The values of a file's text. Raises InputError when it is no mapping in YAML."""
    try:
        values = _yaml.load(text)
    except YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: sections expected, found {type(values).__name__}")
    return values
