"""Format 1: the names that keys of experiments and model folders had before they were the field's. Format 2 is today's.

What was written in format 1 has no key `format`; it is read and converted. In what says `format: 2`, and in params.yaml, an old key
is an error that names the new one.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from core.errors import InputError

FORMAT: Final = 2

_TRAINING = {
    "epochs": "num_train_epochs",
    "tokens_per_batch": "batch_tokens",
    "schedule": "lr_scheduler_type",
    "final_share": "min_lr_rate",
    "clip_norm": "max_grad_norm",
    "patience": "early_stopping_patience",
    "averaged": "average_last",
    "loss_per": "normalization",
}
_PREFIX = {
    "length": "num_virtual_tokens",
    "reparametrisation": "prefix_projection",
    "mlp_input": "projection_input_size",
    "mlp_hidden": "encoder_hidden_size",
    "initial_text": "prompt_tuning_init_text",
}
_RECURRENT = {"layers": "num_layers", "embedding": "embedding_dim", "hidden": "hidden_size"}
_ARCHITECTURES = "pretraining.architectures"
# By the place of the keys in params.yaml; `*` is any name, the first pattern that fits counts.
RENAMED: dict[str, dict[str, str]] = {
    "reward_models.*.prefix.training": _TRAINING,
    "reward_models.*.training": {**_TRAINING, "tokens_per_batch": "micro_batch_tokens"},
    "*.training": _TRAINING,
    "tokenizer": {"vocabulary": "vocab_size"},
    "encoding": {"max_pieces": "max_length"},
    f"{_ARCHITECTURES}.transformer": {
        "layers": "num_layers",
        "d_model": "hidden_size",
        "d_ff": "ff_size",
        "heads": "num_heads",
        "norm": "layer_norm",
    },
    f"{_ARCHITECTURES}.*": {**_RECURRENT, "maxout": "maxout_size", "alignment": "attention_size"},
    "evaluation.decoding": {
        "beam": "beam_size",
        "length_penalty": "beam_alpha",
        "extra_pieces": "extra_tokens",
        "batch_pieces": "batch_tokens",
    },
    "responses": {"beam": "beam_size", "extra_pieces": "extra_tokens"},
    "language_model": {
        "layers": "num_hidden_layers",
        "hidden": "hidden_size",
        "feed_forward": "intermediate_size",
        "heads": "num_attention_heads",
        "key_value_heads": "num_key_value_heads",
        "max_positions": "max_position_embeddings",
    },
    "reward_models.*.loss": {"loss": "loss_type", "centering": "center_rewards_coefficient"},
    "reward_models.*.prefix": _PREFIX,
    "reward_models.*": {
        "body": "backbone",
        "trained": "trainable",
        "top_layers": "num_top_layers",
        "max_pieces": "max_length",
        "groups_per_update": "batch_size",
    },
    "prefix_tuning.variants.*": {**_PREFIX, "top_layers": "num_top_layers"},
    "prefix_tuning": {"max_pieces": "max_length", "generated_pieces": "max_new_tokens", "beam": "beam_size"},
}
_PRECISION = {"single": "32-true", "bf16": "bf16-mixed"}
# By the place of the old key.
RENAMED_VALUES: dict[str, dict[str, str]] = {
    "*.training.precision": _PRECISION,
    "*.training.loss_per": {"piece": "tokens", "sentence": "batch"},
    "evaluation.decoding.precision": _PRECISION,
    "reward_models.*.trained": {"top": "top_layers"},
    "reward_models.*.mode": {"pairs_shuffled": "shuffled_pairs"},
    "prefix_tuning.variants.*.kind": {"embedding": "prompt_tuning", "top": "top_layers"},
}


# Where format 3 has the keys of a place of format 1 and 2.
MOVED = {
    "language_models.*": "language_model",
    "responses.common": "responses",
    "responses.translators.*": "responses",
    "prefix_tuning.task": "prefix_tuning",
}


def new_key(place: str, key: str) -> str | None:
    """What the old `key` at a place of params.yaml, such as `tokenizer`, is called now; None of a key that was not renamed."""
    place = next((old for new, old in MOVED.items() if fnmatchcase(place, new)), place)
    return next((keys[key] for pattern, keys in RENAMED.items() if key in keys and fnmatchcase(place, pattern)), None)


def new_value(place: str, value: Any) -> Any:
    """What the old `value` of the old key at `place` is called now; None of one that was not renamed."""
    fitting = (values for pattern, values in RENAMED_VALUES.items() if fnmatchcase(place, pattern))
    return next((values[value] for values in fitting if isinstance(value, str) and value in values), None)


def converted(values: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Values of format 1 under today's names; `place` is where they belong in params.yaml."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        inner = f"{place}.{key}" if place else key
        renamed = new_value(inner, value)
        new = converted(value, inner) if isinstance(value, Mapping) else value if renamed is None else renamed
        result[new_key(place, key) or key] = new
    return result


def old_keys(values: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """A sentence for each key and value of format 1 among `values`, with its name of today."""
    for key, value in values.items():
        inner = f"{place}.{key}" if place else key
        if renamed := new_key(place, key):
            yield f"key '{inner}' is called '{renamed}' now"
        if renamed := new_value(inner, value):
            yield f"{inner}: {value!r} is called {renamed!r} now"
        if isinstance(value, Mapping):
            yield from old_keys(value, inner)


def format_of(values: Mapping[str, Any], where: str) -> int:
    """The format that a file says it has; 1 where it says nothing. Raises InputError when this version cannot know it."""
    number = values.get("format", 1)
    if number not in (1, FORMAT):
        raise InputError(
            f"{where}: format {number!r}: this version of Gradus reads formats 1 and {FORMAT}. Update Gradus."
        )
    return int(number)


def old_names() -> Iterator[tuple[str, str]]:
    """Every renamed key and value, as (old, new) places for a reader."""
    now = {old: new for new, old in MOVED.items() if new != "responses.translators.*"}
    for place, keys in RENAMED.items():
        yield from ((f"{place}.{old}", f"{now.get(place, place)}.{new}") for old, new in keys.items())
    for place, values in RENAMED_VALUES.items():
        outer, _, key = place.rpartition(".")
        named = f"{outer}.{new_key(outer, key) or key}"
        yield from ((f"{place}: {old}", f"{named}: {new}") for old, new in values.items())
