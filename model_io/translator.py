"""A translator as a model folder."""

from pathlib import Path
from typing import Any, cast

from safetensors.torch import save_file
from tokenizers import Tokenizer

from core.config import validated
from core.errors import InputError
from core.format_1 import FORMAT, converted, format_of
from data.tokenizer import load_tokenizer
from lightning_modules.training.config import without_unread
from lightning_modules.translators.base import Translator, architecture
from lightning_modules.translators.config import TranslatorConfig
from model_io.files import (
    CONFIG,
    DEVICE,
    WEIGHTS,
    check_same,
    check_same_tokenizer,
    check_seal,
    copy_tokenizer,
    load_weights,
    read_config,
    write_sealed_config,
)

ONLY_TRAINING_READS = {
    "training",
    "init_from",
    "dropout",
    "init",
}  # keys of a config that do not change what its weights compute


def save_translator(folder: Path, name: str, model: Translator, config: TranslatorConfig, tokenizer: Path) -> None:
    """Writes a translator of the architecture `name`, with the tokenizer of the folder `tokenizer`."""
    copy_tokenizer(tokenizer, folder)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    values = {
        "format": FORMAT,
        "architecture": name,
        "vocab_size": load_tokenizer(tokenizer).get_vocab_size(),
        "config": config.model_dump(mode="json"),
    }
    write_sealed_config(folder / CONFIG, values)


def load_translator(folder: Path) -> tuple[Translator, Tokenizer, str]:
    """A translator ready to decode, its tokenizer and its architecture's name.

    Raises:
        InputError: a file is missing, damaged or altered, or the weights are not those of the architecture in config.json.
    """
    path = folder / CONFIG
    config = read_config(path, f"a translator, e.g. artifacts/translators/{folder.name or 'transformer'}")
    number = format_of(config, str(path))
    keys = ("architecture", "config", "vocab_size") if number == FORMAT else ("architecture", "settings", "vocabulary")
    if missing := [key for key in keys if key not in config]:
        raise InputError(f"{folder}: no translator of Gradus: its {CONFIG} has no {', no '.join(missing)}.")
    check_seal(path, config)
    name, values, vocab_size = (config[key] for key in keys)
    model_class = architecture(name, str(path))
    if number < FORMAT:
        values = converted(values, f"pretraining.architectures.{name}")
    # Models were saved when a training could have keys that nothing read.
    if isinstance(training := values.get("training"), dict):
        values = {**values, "training": without_unread(training, training)}
    model = model_class(validated(model_class.Config, values, str(path)), vocab_size)
    try:
        model.load_state_dict(load_weights(folder / WEIGHTS))
    except RuntimeError as error:
        raise InputError(f"{folder / WEIGHTS}: not the weights that {CONFIG} describes: {error}") from None
    return model.to(DEVICE).eval(), load_tokenizer(folder), name


def start_from_translator(
    model: Translator, name: str, config: TranslatorConfig, tokenizer: Path, folder: Path
) -> None:
    """Gives a new translator of the architecture `name` the weights of the one in `folder`.

    Raises:
        InputError: there is none, or it is another model: of another architecture, other sizes or another tokenizer.
    """
    earlier, earlier_tokenizer, architecture = load_translator(folder)
    check_same(folder, {"architecture": architecture}, {"architecture": name})
    configs = (cast(Any, earlier).config, config)
    check_same(folder, *(values.model_dump(mode="json", exclude=ONLY_TRAINING_READS) for values in configs))
    check_same_tokenizer(folder, earlier_tokenizer, load_tokenizer(tokenizer))
    model.load_state_dict(earlier.state_dict())
