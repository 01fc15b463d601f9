"""A config's fields in words: meaning, type and bounds, default."""

import ast
import inspect
import json
import textwrap
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from core.config import Config

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}
_NAMES = {int: "integer", float: "number", str: "text", Path: "path", Any: "any"}


def meanings(config: type[Config]) -> dict[str, str]:
    """The text under each field of a config, its bases included. A field without one is not in it."""
    texts = {}
    for cls in reversed(config.__mro__):
        if issubclass(cls, Config) and cls is not Config:
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
            assert isinstance(definition, ast.ClassDef)
            for field, text in zip(definition.body, definition.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    match text:
                        case ast.Expr(value=ast.Constant(value=str(meaning))):
                            texts[field.target.id] = " ".join(meaning.split())
    return texts


def nested_config(field: FieldInfo) -> type[Config] | None:
    """The config that a field holds, alone or as the only alternative to `null`; else None."""
    types = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not NoneType]
    one = types[0] if len(types) == 1 and get_origin(field.annotation) in (None, Union, UnionType) else None
    return _config(get_args(one)[0] if get_origin(one) is Annotated else one)


def items_config(field: FieldInfo) -> type[Config] | None:
    """The config of each item where a field is a mapping from names to configs; else None."""
    return _config(get_args(field.annotation)[1]) if get_origin(field.annotation) is dict else None


def _config(kind: Any) -> type[Config] | None:
    return kind if isinstance(kind, type) and issubclass(kind, Config) else None


def constraint(field: FieldInfo) -> str:
    """A field's type with its bounds, such as `integer ≥ 1 or null`."""
    bounds = [
        f"{sign} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, sign in _BOUNDS.items()
        if hasattr(limit, name)
    ]
    kind = type_in_words(field.annotation)
    base, null, _ = kind.partition(" or `null`")
    return " ".join([base, ", ".join(bounds)]).strip() + null


def type_in_words(kind: Any) -> str:
    """A type, such as `list of 2 numbers`, for a cell of a Markdown table."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " \\| ".join(f"`{json.dumps(value)}`" for value in inner)
    if origin is Annotated:
        return type_in_words(inner[0])
    if origin in (Union, UnionType):
        words = [type_in_words(one) for one in inner if one is not NoneType]
        return " or ".join([*words, "`null`"] if NoneType in inner else words)
    if origin is tuple and Ellipsis not in inner:
        return f"list of {len(inner)}: {type_in_words(inner[0])}"
    if origin in (list, tuple):
        return f"list of {type_in_words(inner[0])}"
    if origin is dict:
        return f"mapping to {type_in_words(inner[1])}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " \\| ".join(f"`{member.value}`" for member in kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "mapping"
    return "`true` \\| `false`" if kind is bool else _NAMES.get(kind, str(kind))


def as_yaml(value: Any) -> str:
    """A default as it would be written in params.yaml."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {as_yaml(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, (str, Path, Enum)):
        return str(value) or '""'
    return json.dumps(value)
