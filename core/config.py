"""What all configs have in common: they are typed and validated, and each is beside the code that it configures."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import InputError
from core.format_1 import new_key, new_value


class Config(BaseModel):
    """Base of all configs: immutable, unknown keys are errors.

    The text under a field says what it means; `docs/reference/configuration.md` is generated from these texts. They are not read when a
    class is made (pydantic's `use_attribute_docstrings`): that would cost every stage 8 ms per class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=BaseModel)


def read_yaml(text: str) -> Any:
    """The values of a text in YAML. Raises yaml.YAMLError."""
    return yaml.load(
        text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )  # in C, ten times as quick, where PyYAML has it


def merged(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`common` with what `own` changes, mapping by mapping."""
    both = {
        k: merged(common[k], v) for k, v in own.items() if isinstance(v, Mapping) and isinstance(common.get(k), Mapping)
    }
    return {**common, **own, **both}


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of nested mappings, their keys joined by dots."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nearest(name: str, known: list[str]) -> str:
    """A hint for a misspelt name: the nearest known one, or all of them when none is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def validated(model: type[S], values: Mapping[str, Any] | None, where: str) -> S:
    """`values` as `model`; raises InputError that names every wrong key as `where: key`, what was found, and what is known."""
    try:
        return model.model_validate(values or {})
    except ValidationError as error:
        raise InputError("\n".join(_explain(model, e, where) for e in error.errors())) from None


def _explain(model: type[BaseModel], error: Any, where: str) -> str:
    path = [str(part) for part in error["loc"]]
    key = ".".join(path)
    section = ".".join([*filter(None, [where.partition(": ")[2]]), *path[:-1]])
    if renamed := new_key(section, path[-1]) if path else None:
        return f"{where}: key '{key}' is called '{renamed}' now"
    if renamed := new_value(f"{section}.{path[-1]}" if path else "", error.get("input")):
        return f"{where}: {key}: {error['input']!r} is called {renamed!r} now"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}' - {nearest(path[-1], _known_keys(model, path[:-1]))}"
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, InputError):  # it says where and what by itself
        return str(cause)
    if error["type"] == "missing":
        return f"{where}: key '{key}' is missing"
    return f"{where}: {key or 'value'}: {error['msg']} (found {error.get('input')!r})"


def _without_none(annotation: Any) -> Any:
    """`X` of a type `X | None`."""
    types = [t for t in get_args(annotation) if t is not type(None)]
    return types[0] if len(types) == 1 and type(None) in get_args(annotation) else annotation


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Field names of the settings at `path` inside `model` (of the last settings on the way where the path leaves them)."""
    inner: Any = model
    for part in path:
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            field = next((f for name, f in inner.model_fields.items() if part == (f.alias or name)), None)
            inner = _without_none(field.annotation) if field else None
        elif get_origin(inner) is dict:  # the part is a key of a mapping to settings
            inner = get_args(inner)[1]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return [field.alias or name for name, field in model.model_fields.items()]
