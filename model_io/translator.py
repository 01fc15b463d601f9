"""A translator as a model folder."""

from pathlib import Path

from safetensors.torch import save_file
from tokenizers import Tokenizer

from core.config import validated
from core.errors import InputError
from data.tokenizer import load_tokenizer
from lightning_modules.translators.base import Translator, TranslatorSettings, architecture
from model_io.files import (
    CONFIG,
    DEVICE,
    WEIGHTS,
    check_seal,
    copy_tokenizer,
    read_config,
    weights,
    write_sealed_config,
)


def save_translator(folder: Path, name: str, model: Translator, settings: TranslatorSettings, tokenizer: Path) -> None:
    """Writes a translator of the architecture `name` with its tokenizer."""
    copy_tokenizer(tokenizer, folder)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    vocabulary = load_tokenizer(tokenizer).get_vocab_size()
    write_sealed_config(
        folder / CONFIG, {"architecture": name, "vocabulary": vocabulary, "settings": settings.model_dump(mode="json")}
    )


def load_translator(folder: Path) -> tuple[Translator, Tokenizer, str]:
    """A translator ready to decode, its tokenizer and its architecture's name.

    Raises:
        InputError: a file is missing, damaged or altered, or the weights are not those of the architecture in config.json.
    """
    config = read_config(folder / CONFIG, f"a translator, e.g. artifacts/translators/{folder.name or 'transformer'}")
    if missing := [key for key in ("architecture", "settings", "vocabulary") if key not in config]:
        raise InputError(f"{folder}: no translator of Gradus: its {CONFIG} has no {', no '.join(missing)}.")
    check_seal(folder / CONFIG, config)
    found = architecture(config["architecture"], str(folder / CONFIG))
    settings = validated(found.Settings, config["settings"], str(folder / CONFIG))
    model = found(settings, config["vocabulary"])
    try:
        model.load_state_dict(weights(folder / WEIGHTS))
    except RuntimeError as error:
        raise InputError(f"{folder / WEIGHTS}: not the weights that {CONFIG} describes: {error}") from None
    return model.to(DEVICE).eval(), load_tokenizer(folder), config["architecture"]
