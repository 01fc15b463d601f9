"""Named settings: experiments/default.yaml is everything, the other files override parts of it."""

import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from data import mirror
from data.errors import InputError
from data.folders import finished_file
from data.settings import nearest

FOLDER = Path("experiments")
PARAMS = Path("params.yaml")
DEFAULT = "default"
# Keys whose mapping is a choice as a whole: an experiment that has one replaces the default's.
REPLACED = {"corpus", "architectures", "tasks", "variants"}

_yaml = YAML()
_yaml.width = 10_000
_yaml.preserve_quotes = True


def use(name: str, force: bool) -> str:
    """Writes params.yaml for the experiment `name`; returns what to tell the user.

    Raises:
        InputError: there is no such experiment, it is wrong, or params.yaml has edits that no experiment has.
    """
    text = rendered(name)
    if PARAMS.exists() and not force:
        current = PARAMS.read_text(encoding="utf-8")
        if all(_load(current, PARAMS) != _load(rendered(known), FOLDER) for known in names()):
            raise InputError(
                f"{PARAMS} has settings that no file of {FOLDER}/ gives. Keep them as an experiment of your own "
                f"(a file {FOLDER}/NAME.yaml with what differs from {DEFAULT}.yaml), or discard them: gradus use {name} --force."
            )
    from stages.params import check_params

    check_params(YAML(typ="safe").load(text), str(FOLDER / f"{name}.yaml"))
    with finished_file(PARAMS) as partial:
        partial.write_text(text, encoding="utf-8")
    place = mirror.remember()
    note = f" Raw data: {place} (remembered in {mirror.REMEMBERED})." if place else ""
    return f"{PARAMS} now holds the experiment '{name}'.{note} Next: gradus run, or dvc repro."


def names() -> list[str]:
    """All experiments, the default first."""
    found = sorted(p.stem for p in FOLDER.glob("*.yaml"))
    if DEFAULT not in found:
        raise InputError(f"{FOLDER / DEFAULT}.yaml: no such file. Run from the project's folder.")
    return [DEFAULT, *(n for n in found if n != DEFAULT)]


def listing() -> str:
    """Every experiment with what its file says of it; the one that params.yaml holds is marked."""
    current = _load(PARAMS.read_text(encoding="utf-8"), PARAMS) if PARAMS.exists() else None
    lines = []
    for name in names():
        about = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        lines.append(f"{'*' if _load(rendered(name), FOLDER) == current else ' '} {name:16} {about}")
    return "\n".join([*lines, "Choose one: gradus use NAME"])


def current() -> str:
    """The name of the experiment that params.yaml says it holds, with "+edits" where its values are not (or no longer) the file's."""
    text = PARAMS.read_text(encoding="utf-8") if PARAMS.exists() else ""
    written_for = re.match(r"# Experiment '([^']+)'", text)
    name = written_for.group(1) if written_for else DEFAULT
    try:
        same = _load(text, PARAMS) == _load(rendered(name), FOLDER)
    except InputError:
        same = False
    return name if same else f"{name}+edits"


def rendered(name: str) -> str:
    """The text of params.yaml for an experiment: the default with its comments, and the experiment's values over it."""
    if name not in names():
        raise InputError(f"experiment '{name}': no file {FOLDER / name}.yaml - {nearest(name, names())}")
    text = (FOLDER / f"{DEFAULT}.yaml").read_text(encoding="utf-8")
    if name == DEFAULT:
        return text
    path = FOLDER / f"{name}.yaml"
    base = _load(text, FOLDER / f"{DEFAULT}.yaml")
    _override(base, _load(path.read_text(encoding="utf-8"), path))
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


def _load(text: str, path: Path) -> Any:
    try:
        values = _yaml.load(text)
    except YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: sections expected, found {type(values).__name__}")
    return values
