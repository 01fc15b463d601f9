"""Language models and reward models as folders that `transformers` reads."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from data.errors import InputError
from data.tokenizer import load_tokenizer
from stages.model_files import CONFIG, DEVICE, read_config

transformers_logging.disable_progress_bar()  # of loading and saving, which take a moment here


def load_causal_model(folder: Path | str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A language model (in float32 on a CPU) and its tokenizer, from a folder or a hub id."""
    return _from_pretrained(AutoModelForCausalLM, folder)


def load_reward_model(folder: Path) -> tuple[PreTrainedModel, Tokenizer, float]:
    """A reward model, its tokenizer, and the bias that makes the demonstrations' mean reward 0."""
    bias = read_config(folder / "reward.json", "a reward model, e.g. artifacts/reward_model")["bias"]
    model, _ = _from_pretrained(AutoModelForSequenceClassification, folder)
    return model, load_tokenizer(folder), bias


def _from_pretrained(kind: Any, folder: Path | str) -> tuple[Any, Any]:
    if isinstance(folder, Path) and not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: no {CONFIG} in it: not a model folder. Run the stage that makes it: dvc repro.")
    try:
        return kind.from_pretrained(folder, dtype=torch.float32).to(DEVICE).eval(), AutoTokenizer.from_pretrained(
            folder
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder}: cannot be loaded: {error}") from None
