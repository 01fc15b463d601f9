"""A prefix of an encoder-decoder as a folder: that of `prefix.py`, with a P for each part of the model."""

from pathlib import Path

from transformers import PreTrainedModel

from core.errors import InputError
from lightning_modules.encoder_decoder_prefix import pretrained
from lightning_modules.encoder_decoder_prefix.translator import PARTS, EncoderDecoderPrefix, transformer_shapes
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.translators.transformer.model import Transformer
from model_io.prefix import PREFIX, check_base, read_prefix_files, write_prefix_files

KIND = "encoder-decoder"


def save_encoder_decoder_prefix(folder: Path, prefix: EncoderDecoderPrefix, base: Path) -> None:
    """Writes the P of each part, (L, layers * 2 * heads * head size), and which base they belong to.

    Makes the folder where there is none. `base` is the folder that the model was loaded from.

    Raises:
        InputError: the base's folder has no weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_prefix_files(folder, prefix.prompt_embeddings(), {"kind": KIND}, base)


def load_encoder_decoder_prefix(
    folder: Path, base: Transformer | PreTrainedModel, base_folder: Path
) -> EncoderDecoderPrefix:
    """The prefix on the device of `base`, this project's Transformer or an encoder-decoder of `transformers`, without the MLP of its training.

    Raises:
        InputError: a file is missing or damaged, the prefix was trained on another base, or its shapes are not this base's.
    """
    config, parts = read_prefix_files(folder, (KIND,), PARTS)
    check_base(folder, config, base_folder)
    shapes = transformer_shapes(base) if isinstance(base, Transformer) else pretrained.shapes(base)
    length = next(iter(parts["encoder"].shape), 0)
    for part, (layers, heads, size) in shapes.items():
        shape, width = tuple(parts[part].shape), layers * 2 * heads * size
        if not length or shape != (length, width):
            raise InputError(
                f"{folder / PREFIX}: {part} is {shape}, and this base needs (length, {width}), of the same length in every part."
            )
    prefix = EncoderDecoderPrefix(shapes, PrefixConfig(num_virtual_tokens=length, prefix_projection=False), parts)
    return prefix.to(next(base.parameters()).device).eval()
