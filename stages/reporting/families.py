"""Models that differ only in keys one averages over, such as the seed."""

import json
from collections.abc import Mapping
from typing import Any


def families(models: Mapping[str, Mapping[str, Any]], *apart_from: str) -> list[list[str]]:
    """Names of the models whose `config` is equal but for the keys `apart_from`, together, in the order they came."""
    names_of: dict[str, list[str]] = {}
    for name, model in models.items():
        equal = {key: value for key, value in model["config"].items() if key not in apart_from}
        names_of.setdefault(json.dumps(equal, sort_keys=True), []).append(name)
    return list(names_of.values())
