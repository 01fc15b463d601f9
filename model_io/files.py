"""The files of a model folder: weights (safetensors), configs (JSON) and the tokenizer. Nothing in it is code."""

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn

from core.errors import InputError
from core.folders import file_hash

WEIGHTS, CONFIG = "model.safetensors", "config.json"
# For every load by `transformers`, which otherwise asks on standard input whether to run code that a folder brings.
NO_CODE: dict[str, Any] = {"trust_remote_code": False}
AGAIN = "Make it again (dvc repro), or put the original back."
DEVICE = torch.device(
    "cuda" if torch.cuda.is_available() else "cpu"
)  # where models are used; training decides by itself
# cuDNN's attention makes a plan for each new shape, which takes many times as long as the attention. Texts have all shapes.
torch.backends.cuda.enable_cudnn_sdp(False)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Puts the tokenizer's files into a model's folder."""
    for file in source.glob("tokenizer*.json"):
        shutil.copyfile(file, folder / file.name)


def weight_files(folder: Path) -> list[Path]:
    """The files of a model's weights: one, or the parts of a large model (`model-00001-of-00002.safetensors`, ...) in their order.

    Raises InputError when there is none.
    """
    whole = folder / WEIGHTS  # which `transformers` loads where a folder has both
    files = [whole] if whole.is_file() else sorted(folder.glob("model-*-of-*.safetensors"))
    if not files:
        raise InputError(f"{folder}: no {WEIGHTS} in it: not a model folder.")
    return files


def load_weights(path: Path, names: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises InputError when it is missing or damaged, or its names are not `names`."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: missing or damaged ({error}). Make it again: dvc repro.") from None
    if names is not None and set(tensors) != set(names):
        raise InputError(f"{path}: expected {', '.join(names)} in it, found {', '.join(tensors) or 'nothing'}.")
    return tensors


def read_config(path: Path, what: str) -> dict[str, Any]:
    """A JSON object of a model folder; `what` says in errors which folder is expected.

    Raises InputError when the file does not exist, cannot be read or holds no JSON object.
    """
    if path.parent.is_file():
        raise InputError(f"{path.parent}: a file, not a folder. Give the folder of {what}.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent}: no {path.name} in it. Give the folder of {what}.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Give the folder of {what}.") from None
    except ValueError as error:  # of JSON, or of UTF-8
        raise InputError(f"{path}: damaged ({error}). {AGAIN}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: damaged (a JSON object expected, {json.dumps(values)[:40]} found). {AGAIN}")
    return values


def write_config(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file of a model folder."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def write_sealed_config(path: Path, values: dict[str, Any]) -> None:
    """Writes a model folder's JSON file last, with the content hashes of the weights and tokenizer beside it and its own."""
    files = sorted(file for pattern in ("*.safetensors", "tokenizer*.json") for file in path.parent.glob(pattern))
    sealed = {**values, "files": {file.name: file_hash(file) for file in files}}
    write_config(path, {**sealed, "config_hash": _hash(sealed)})


def check_seal(path: Path, config: dict[str, Any]) -> None:
    """Raises InputError when a file of a model folder is missing, or differs from the one that its `config` was written for.

    Configs of old folders have no hashes; these are not checked.
    """
    if "config_hash" in config and config["config_hash"] != _hash(config):
        raise InputError(f"{path}: it was altered since the model was saved. {AGAIN}")
    for name, expected in config.get("files", {}).items():
        file = path.parent / name
        if not file.is_file():
            raise InputError(f"{file}: missing. {AGAIN}")
        if (actual := file_hash(file)) != expected:
            raise InputError(
                f"{file}: not the file that was saved with the model (content {actual[:8]}, not {expected[:8]}). {AGAIN}"
            )


def check_same(folder: Path, earlier: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """For a warm start: raises InputError, which names each difference, if the model of `folder` is not what the new one is by its config."""
    keys = [key for key in {**new, **earlier} if earlier.get(key) != new.get(key)]
    if keys:
        differences = "; ".join(f"{key} is {earlier.get(key)!r} there, {new.get(key)!r} here" for key in keys)
        raise InputError(f"init_from: {folder} is another model: {differences}.")


def check_same_tokenizer(folder: Path, earlier: Tokenizer, new: Tokenizer) -> None:
    """For a warm start: raises InputError, which names a difference, if the tokenizer of `folder` makes other tokens of a text."""
    vocabularies = [tokenizer.get_vocab() for tokenizer in (earlier, new)]
    there, here = ({i: token for token, i in vocabulary.items()} for vocabulary in vocabularies)
    where = f"init_from: {folder} has another tokenizer"
    if len(there) != len(here):
        raise InputError(f"{where}: {len(there):,} tokens there, {len(here):,} here.")
    if differing := [i for i in sorted({**there, **here}) if there.get(i) != here.get(i)]:
        i = differing[0]
        raise InputError(
            f"{where}: {len(differing):,} of {len(here):,} tokens differ, e.g. {i} is {there.get(i)!r} there, {here.get(i)!r} here."
        )
    # What is around the tokens of a text, and how long they may be, is not the tokenizer's business here.
    parts = [json.loads(tokenizer.to_str()) for tokenizer in (earlier, new)]
    for part in ("normalizer", "pre_tokenizer", "model"):
        if parts[0].get(part) != parts[1].get(part):
            raise InputError(f"{where}: it has the same tokens, and another {part} in its tokenizer.json.")


def _hash(values: dict[str, Any]) -> str:
    hashed = {k: v for k, v in values.items() if k != "config_hash"}
    return hashlib.blake2b(json.dumps(hashed, sort_keys=True).encode(), digest_size=16).hexdigest()


def count_parameters(model: nn.Module) -> int:
    """Number of weights, shared ones once."""
    return sum(p.numel() for p in model.parameters())
