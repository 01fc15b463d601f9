"""Warm start: the folder of the earlier model that a training starts from, which its config names as `init_from`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import InputError
from core.progress import say
from stages.framework import layout

if TYPE_CHECKING:
    from stages.framework.stage import Stage

# Stages that take `init_from`: the folder of their models, and where params.yaml has their configs.
TRAINED = {
    "pretraining": (layout.TRANSLATORS, "pretraining.architectures"),
    "language_model": (layout.LANGUAGE_MODELS, "language_models"),
    "reward_model": (layout.REWARD_MODELS, "reward_models.variants"),
    "prefix_tuning": (layout.PREFIXES, "prefix_tuning.variants"),
}


def init_folder(stage: str, item: str | None, params: Any) -> Path | None:
    """The folder that `init_from` of a stage's item means; None without `init_from`. The folder may not exist yet.

    `init_from` is an item of the same stage (`grouped`, or `reward_models/grouped`), or else a folder's path.

    Args:
        params: params.yaml, as configs or as plain mappings.

    Raises:
        InputError: it is the item's own output.
    """
    if stage not in TRAINED or not item:
        return None
    models, place = TRAINED[stage]
    section: Any = params
    for key in place.split("."):
        section = _get(section, key)
    init_from = _get(_get(section, item), "init_from")
    if not init_from:
        return None
    name = str(init_from).removeprefix(f"{models.name}/")
    folder = models / name if name in section else Path(init_from)
    if folder.resolve() == (models / item).resolve():
        raise InputError(
            f"{place}.{item}: init_from: {init_from} is what this stage itself makes, and removes before it starts. "
            "Copy that folder, and name the copy."
        )
    return folder


def existing_init_folder(stage: "Stage") -> Path | None:
    """`init_folder` of a running stage, which says that it starts from there. Raises InputError when there is no such folder."""
    name = stage.name.partition("@")[0]
    folder = init_folder(name, stage.item, stage.params)
    if folder is None:
        return None
    if not folder.is_dir():
        raise InputError(
            f"init_from: {folder}: no such folder. Give a model folder, or another item of {TRAINED[name][1]} that has been trained."
        )
    say(f"{stage.name}: starts from the weights of {folder}")
    return folder


def _get(values: Any, key: str) -> Any:
    return values.get(key) if isinstance(values, Mapping) else getattr(values, key, None)
