"""Format 2: params.yaml and experiments as they were when every section had to be there, and an experiment said what differs from the default.

An experiment of format 1 or 2 is read over the default of that time (`format_2_default.yaml`) and converted. Model folders and collections
did not change with format 3.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from core.config import read_yaml
from core.errors import InputError
from core.format_1 import converted as from_format_1

FORMAT: Final = 3  # of params.yaml and experiments

_DEFAULT = Path(__file__).with_name("format_2_default.yaml")
# Keys whose mapping is a choice as a whole: an experiment that has one replaces the default's.
_REPLACED = {"corpus", "architectures", "tasks", "variants"}
_OF_TRAINING = {
    "num_train_epochs": 1, "optimizer": "adam", "learning_rate": 1e-3, "betas": [0.9, 0.98], "weight_decay": 0.0,
    "lr_scheduler_type": "constant", "warmup_steps": 0, "batch_tokens": 2048,
}  # fmt: skip
_OF_COLLECTIONS = ("imports", "strict")
_OF_RESPONSES = ("tie_margin", "min_responses", "max_responses")


def format_of(values: Mapping[str, Any], where: str) -> int:
    """The format that an experiment says it has; 1 where it says nothing. Raises InputError when this version cannot know it."""
    number = values.get("format", 1)
    if number not in (1, 2, FORMAT):
        raise InputError(
            f"{where}: format {number!r}: this version of Gradus reads formats 1 to {FORMAT}. Update Gradus."
        )
    return int(number)


def from_experiment(values: Mapping[str, Any], number: int) -> dict[str, Any]:
    """An experiment, or a whole params.yaml, of format 1 or 2 as one of format 3, with all sections of the default of that time."""
    default = read_yaml(_DEFAULT.read_text(encoding="utf-8"))
    return from_format_2(_over(default, from_format_1(values) if number == 1 else values))


def from_format_2(old: Mapping[str, Any]) -> dict[str, Any]:
    """A whole params.yaml of format 2 under today's keys."""
    corpus, tokenizer, prefix_tuning = (dict(old[section]) for section in ("corpus", "tokenizer", "prefix_tuning"))
    base_models = {"base": dict(old["base_model"])}
    collections, collection = _collections(old["comparisons"])
    return {
        "format": FORMAT,
        "seed": old["seed"],
        "pipeline": old["pipeline"],
        "corpus": {corpus.pop("name"): corpus},
        "tokenizer": {tokenizer.pop("kind", "bpe"): tokenizer},
        "encoding": old["encoding"],
        "pretraining": old["pretraining"],
        "evaluation": old["evaluation"],
        "responses": {
            "common": old["responses"],
            "translators": {name: {} for name in old["pretraining"]["architectures"]},
        },
        **collections,
        "language_models": {"small": _with_training(old["language_model"], _OF_TRAINING)},
        "base_models": base_models,  # `_reward_models` adds backbones from outside
        "reward_models": _reward_models(old["reward_models"], old["comparisons"], collection, base_models),
        "prefix_tuning": {
            "base_model": "base",
            "variants": {
                name: _with_training(variant, _OF_TRAINING) for name, variant in prefix_tuning.pop("variants").items()
            },
            "task": prefix_tuning,
        },
        "long_lag": old["long_lag"],
    }


def _collections(old: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The sections with the one collection that there was, and its name."""
    if old.get("reference_labeler", True):
        return {"reference_comparisons": {"ours": _some(old, *_OF_COLLECTIONS, *_OF_RESPONSES)}}, "ours"
    return {"comparisons": {"people": _some(old, *_OF_COLLECTIONS)}}, "people"


def _reward_models(
    old: Mapping[str, Any], comparisons: Mapping[str, Any], collection: str, base_models: dict[str, Any]
) -> dict[str, Any]:
    common = dict(old.get("common") or {})
    usual = common.pop("backbone", "language_model")

    def backbone(name: str) -> str:
        if name in ("language_model", "base_model"):
            return {"language_model": "language_models/small", "base_model": "base_models/base"}[name]
        known = next((key for key, model in base_models.items() if model.get("source") == name), None)
        key = known or f"backbone_{len(base_models)}"
        base_models[key] = {"source": name}
        return f"base_models/{key}"

    variants = {}
    for name, variant in old["variants"].items():
        own = dict(variant or {})
        variants[name] = {"backbone": backbone(own.pop("backbone", usual)), "collection": collection, **own}
    return {"split": _some(comparisons, "validation", "test"), "common": common, "variants": variants}


def _with_training(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What a written `training` left out had these defaults; now it has those of its section."""
    if not (training := values.get("training")):
        return dict(values)
    full = {**defaults, **training}
    if full["optimizer"] not in ("adam", "adamw") and "betas" not in training:
        del full["betas"]
    return {**values, "training": full}


def _some(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: values[key] for key in keys if key in values}


def _over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of an experiment over it."""
    result = dict(base)
    for key, value in values.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping) and key not in _REPLACED
        result[key] = _over(base[key], value) if both else value
    return result
