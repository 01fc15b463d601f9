"""Named experiments: each file of experiments/ has the sections of params.yaml that it uses."""

import io
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap

from core.config import merged, nearest
from core.errors import InputError
from core.format_2 import FORMAT, format_of, from_experiment

FOLDER = Path("experiments")
PARAMS = Path("params.yaml")
DEFAULT = "default"
SWEPT = ("reward_models", "prefix_tuning")  # sections whose variants may have a `matrix`
MATRIX = "matrix"

_yaml = YAML()
_yaml.width = 10_000
_yaml.preserve_quotes = True


def names() -> list[str]:
    """All experiments, the default first."""
    files = sorted(p.stem for p in FOLDER.glob("*.yaml"))
    if DEFAULT not in files:
        raise InputError(f"{FOLDER / DEFAULT}.yaml: no such file. Run from the project's folder.")
    return [DEFAULT, *(name for name in files if name != DEFAULT)]


def listing() -> str:
    """Every experiment with its sections and what its file says of it; the one that params.yaml holds is marked."""
    held = load(PARAMS.read_text(encoding="utf-8"), PARAMS) if PARAMS.exists() else None
    lines = []
    for name in names():
        values = load(rendered(name), path_of(name))
        lines.append(f"{'*' if values == held else ' '} {name:20} {about(name)}")
        lines.append(f"  {'':20} runs: {', '.join(s for s in values if s not in ('format', 'seed', 'pipeline'))}")
    return "\n".join([*lines, "Choose one: gradus use NAME"])


def about(name: str) -> str:
    """What an experiment is about and how long it takes: the first line of its file."""
    return path_of(name).read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def current() -> str:
    """The name of the experiment that params.yaml says it holds, with "+edits" where its values are not (or no longer) the file's."""
    text = PARAMS.read_text(encoding="utf-8") if PARAMS.exists() else ""
    name, changes = _written_for(text)
    return name if not changes and _holds(text, name, changes) else f"{name}+edits"


def has_other_values() -> bool:
    """Whether params.yaml exists, and neither an experiment nor one with its `--set` changes has its values."""
    if not PARAMS.exists():
        return False
    text = PARAMS.read_text(encoding="utf-8")
    return not _holds(text, *_written_for(text)) and not any(_holds(text, name, []) for name in names())


def path_of(name: str) -> Path:
    """The file of an experiment. Raises InputError when there is none."""
    if name not in names():
        raise InputError(f"experiment '{name}': no file {FOLDER / name}.yaml - {nearest(name, names())}")
    return FOLDER / f"{name}.yaml"


def rendered(name: str, changes: Iterable[str] = ()) -> str:
    """The text of params.yaml for an experiment, with `changes` (`KEY=VALUE`), and an item for each cell of a matrix.

    Raises:
        InputError: there is no such experiment, it is no YAML, of an unknown format, or a change names no place.
    """
    path = path_of(name)
    text = path.read_text(encoding="utf-8")
    values = load(text, path)
    number, changes = format_of(values, str(path)), list(changes)
    if number < FORMAT:
        values = from_experiment(values, number)
    for change in changes:
        set_value(values, change)
    swept = expand(values)
    if name == DEFAULT and not changes:
        return text
    header = "".join(
        [f"# Experiment '{name}' ({path}), written by `gradus use {name}`.\n", *(f"# --set {c}\n" for c in changes)]
    )
    return header + (_dumped(values) if number < FORMAT or changes or swept else text)


def changed(name: str, changes: Iterable[str]) -> str:
    """The text of an experiment's own file with `changes`, for a new experiment."""
    path = path_of(name)
    values = load(path.read_text(encoding="utf-8"), path)
    for change in changes:
        set_value(values, change)
    return _dumped(values)


def expand(values: Any) -> bool:
    """Replaces each variant that has a `matrix` by its cells; returns whether there was one.

    A matrix is a mapping from keys to lists of values, or to lists of mappings whose keys change together; or one such list. A cell is
    named after its variant and its values: `words` with `{examples: [50, 100], seed: [1, 2]}` becomes `words_50_1`, `words_50_2`, ...

    Raises:
        InputError: a matrix has another form, or two cells have one name.
    """
    swept = False
    for section in SWEPT:
        variants = (values.get(section) or {}).get("variants")
        if not isinstance(variants, Mapping) or not any(MATRIX in (v or {}) for v in variants.values()):
            continue
        swept, cells = True, [cell for name, variant in variants.items() for cell in _cells(section, name, variant)]
        if len({name for name, _ in cells}) < len(cells):
            raise InputError(f"{section}.variants: two cells of a matrix have the same name: {[n for n, _ in cells]}")
        values[section]["variants"] = {name: _in_one_line(variant) for name, variant in cells}
    return swept


def _cells(section: str, name: str, variant: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(variant, Mapping) or MATRIX not in variant:
        yield name, variant
        return
    matrix, rest = variant[MATRIX], {key: value for key, value in variant.items() if key != MATRIX}
    axes = matrix if isinstance(matrix, Mapping) else {"": matrix}
    if not axes or not all(isinstance(axis, list) and axis for axis in axes.values()):
        raise InputError(
            f"{section}.variants.{name}.{MATRIX}: a mapping from keys to lists expected, or a list of mappings, "
            f"e.g. {{examples: [50, 100], seed: [1, 2, 3]}} (found {matrix!r})"
        )
    for cell in itertools.product(*([(key, i, v) for i, v in enumerate(axis, 1)] for key, axis in axes.items())):
        values, suffixes = rest, []
        for key, number, value in cell:
            values = merged(values, value if isinstance(value, Mapping) else {key: value})
            label = value.get(key, number) if isinstance(value, Mapping) else value
            suffixes.append(re.sub(r"[^A-Za-z0-9-]", "_", str(label)))
        yield "_".join([name, *suffixes]), values


def set_value(values: Any, change: str) -> None:
    """Sets `KEY=VALUE`, with a dotted key (`comparisons.people.imports.0.source`) and a value in YAML.

    Raises:
        InputError: the change has no `=`, or its key leads through something that is neither a mapping nor a list.
    """
    key, equals, text = change.partition("=")
    *parents, last = key.split(".")
    if not equals or not all([*parents, last]):
        raise InputError(f"--set {change}: KEY=VALUE expected, e.g. reward_models.common.batch_size=32")
    place = values
    for part in parents:
        place = _inside(place, part, change)
    try:
        value = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise InputError(f"--set {change}: the value is not YAML: {error}") from None
    if isinstance(place, list):
        position = _position(place, last, change, grows=True)
        place[position : position + 1] = [value]
    elif isinstance(place, Mapping):
        place[last] = value  # type: ignore[index]
    else:
        raise InputError(f"--set {change}: '{parents[-1]}' is neither a mapping nor a list")


def _inside(place: Any, part: str, change: str) -> Any:
    if isinstance(place, list):
        return place[_position(place, part, change)]
    if not isinstance(place, Mapping):
        raise InputError(f"--set {change}: there is nothing below the value {place!r} that '{part}' could name")
    if place.get(part) is None:
        place[part] = {}  # type: ignore[index]
    return place[part]


def _position(place: list[Any], part: str, change: str, *, grows: bool = False) -> int:
    if not part.isdecimal() or int(part) >= len(place) + grows:
        raise InputError(f"--set {change}: '{part}' is no position in a list of {len(place)} (the first is 0)")
    return int(part)


def load(text: str, path: Path) -> Any:
    """The values of a file's text. Raises InputError when it is no mapping in YAML."""
    try:
        values = _yaml.load(text)
    except YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: sections expected, found {type(values).__name__}")
    return values


def _in_one_line(values: Any) -> Any:
    """The same values, written as `{a: 1, b: {c: 2}}`."""
    if isinstance(values, Mapping):
        line = CommentedMap((key, _in_one_line(value)) for key, value in values.items())
        line.fa.set_flow_style()
        return line
    return values


def _written_for(text: str) -> tuple[str, list[str]]:
    """The experiment and the changes that the head of params.yaml names."""
    name = re.match(r"# Experiment '([^']+)'", text)
    head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    changes = [line.removeprefix("# --set ") for line in head if line.startswith("# --set ")]
    return (name.group(1), changes) if name else (DEFAULT, [])


def _holds(text: str, name: str, changes: list[str]) -> bool:
    try:
        return bool(load(text, PARAMS) == load(rendered(name, changes), FOLDER))
    except InputError:
        return False


def _dumped(values: Any) -> str:
    out = io.StringIO()
    _yaml.dump(values, out)
    return out.getvalue()
