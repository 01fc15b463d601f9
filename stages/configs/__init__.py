"""The sections of params.yaml that belong to stages; a section that configures a package is beside that package's code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import StringConstraints

from core.config import Config, merged, validated

PARAMS = Path("params.yaml")
# A stage's output that another stage names, below artifacts/.
Artifact = Annotated[str, StringConstraints(pattern=r"^(language_models|base_models)/[A-Za-z0-9_-]+$")]
ItemName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]  # it is part of a stage's command


def inherited(
    config: type[Config],
    section: Any,
    name: str,
    items: str,
    item_config: type[Config] | None = None,
    merge: Callable[[Mapping[str, Any], Any], Any] = merged,
) -> Any:
    """A section's values, where each item has what it does not say itself from `common`.

    Raises:
        InputError: a key of `common` or of an item is unknown or wrong; it names the key.
    """
    if not isinstance(section, Mapping) or not isinstance(section.get(items), Mapping):
        return section
    common = section.get("common") or {}
    where = f"{PARAMS}: {name}"
    validated(config, common, f"{where}.common")
    return {
        **section,
        items: {
            item: validated(item_config or config, merge(common, values or {}), f"{where}.{items}.{item}")
            for item, values in section[items].items()
        },
    }
