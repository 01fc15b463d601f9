"""Language models as plain `transformers` folders. They carry no format number of this project."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from core.errors import InputError
from model_io.files import AGAIN, CONFIG, DEVICE, NO_CODE, check_same, check_same_tokenizer


def load_language_model(folder: Path | str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A language model (in float32 on a CPU) and its tokenizer, from a folder or a hub id."""
    return load_transformers_model(AutoModelForCausalLM, folder)


def load_skeleton(folder: Path) -> PreTrainedModel:
    """A language model of the folder's shapes, without weights. Raises InputError when the folder has no readable config."""
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: no {CONFIG} in it: not a model folder. Run the stage that makes it: dvc repro.")
    try:
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(folder, **NO_CODE)
            # Without weights, mixtures of experts can multiply in bf16 only.
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, **NO_CODE)
    except Exception as error:  # a damaged folder raises errors of many types in the libraries that read it
        raise _not_loaded(folder, error) from None
    return model


def load_transformers_model(
    auto_class: Any, folder: Path | str, new: Collection[str] = (), **options: Any
) -> tuple[Any, Any]:
    """A model of an auto class of `transformers`, in float32, and its tokenizer.

    Raises:
        InputError: they cannot be loaded, weights have another shape, or weights are missing that are not in `new`.
    """
    if isinstance(folder, Path) and not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: no {CONFIG} in it: not a model folder. Run the stage that makes it: dvc repro.")
    try:
        model, info = auto_class.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **NO_CODE, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **NO_CODE)
    except Exception as error:  # see `load_skeleton`
        raise _not_loaded(folder, error) from None
    # `transformers` would continue with random weights.
    if missing := sorted(set(info["missing_keys"]) - set(new)):
        first = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
        raise InputError(f"{folder}: weights are missing ({len(missing)}): {first}. {AGAIN}")
    if mismatched := sorted(info["mismatched_keys"]):
        name, shape, expected = mismatched[0]
        raise InputError(
            f"{folder}: {name} has the shape {tuple(shape)}, and its {CONFIG} describes {tuple(expected)}. {AGAIN}"
        )
    _check_tokens(model, tokenizer, folder)
    return model.to(DEVICE).eval(), tokenizer


def _not_loaded(folder: Path | str, error: Exception) -> InputError:
    if "trust_remote_code" in str(error):
        return InputError(
            f"{folder}: it has code of its own (auto_map in a JSON file), and no code of a model is run here."
        )
    explained = isinstance(error, OSError | ValueError)
    return InputError(f"{folder}: cannot be loaded: {error if explained else f'{type(error).__name__}: {error}'}")


def _check_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path | str) -> None:
    """Refuses tokens that a text may have and that have no embedding. No text has special tokens, such as padding."""
    embeddings = cast(torch.Tensor, model.get_input_embeddings().weight).shape[0]
    for token_id, token in tokenizer.added_tokens_decoder.items():
        if token_id >= embeddings and not token.special:
            raise InputError(
                f"{folder}: its tokenizer has a token {str(token)!r} of id {token_id}, and the model has {embeddings:,} embeddings: "
                "tokenizer and model were not made for each other (resize_token_embeddings was left out?)."
            )


def start_from_language_model(model: PreTrainedModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Gives a new model the weights of the one in `folder`.

    Raises:
        InputError: there is none, or it is another model: of another config or another tokenizer.
    """
    earlier, earlier_tokenizer = load_language_model(folder)
    start_from_transformers_model(model, tokenizer, earlier, earlier_tokenizer.backend_tokenizer, folder)


def start_from_transformers_model(
    model: PreTrainedModel, tokenizer: Tokenizer, earlier: PreTrainedModel, earlier_tokenizer: Tokenizer, folder: Path
) -> None:
    """Gives a new model the weights of an `earlier` one of the same class. Raises InputError as `start_from_language_model`."""
    check_same_tokenizer(folder, earlier_tokenizer, tokenizer)
    check_same(folder, _shape(earlier), _shape(model))
    model.load_state_dict(earlier.state_dict())


def _shape(model: PreTrainedModel) -> dict[str, Any]:
    """What a model's config says of the model, and not of its file or its use."""
    other = {"architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
    return {key: value for key, value in model.config.to_dict().items() if key not in other and not key.startswith("_")}
