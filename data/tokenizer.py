"""One byte-level BPE vocabulary for both sides of the pairs, shared by translators, language model and reward model."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from data.errors import InputError
from data.settings import Settings

# Pieces with a meaning of their own, at ids 0..3 in every vocabulary trained here.
PAD, BEGIN, END, SEPARATOR = range(4)
SPECIAL = ("<pad>", "<s>", "</s>", "<sep>")
FILE = "tokenizer.json"


class TokenizerSettings(Settings):
    """Settings of the stage `tokenizer`."""

    vocabulary: int = Field(default=4000, ge=260)  # pieces, the four special ones and 256 bytes included
    min_frequency: int = Field(default=2, ge=1)  # a merge must occur this often


def train_tokenizer(texts: Iterable[str], settings: TokenizerSettings) -> Tokenizer:
    """BPE (Sennrich et al. 2016) over bytes: no unknown words, decoding restores the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        min_frequency=settings.min_frequency,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes `tokenizer.json` and what `transformers.AutoTokenizer` needs beside it."""
    from transformers import PreTrainedTokenizerFast

    begin, end, separator = SPECIAL[BEGIN], SPECIAL[END], SPECIAL[SEPARATOR]
    # Other tools add what the language model reads around a prompt; our own encoding adds nothing by itself.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {separator}", special_tokens=[(begin, BEGIN), (separator, SEPARATOR)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL[PAD], bos_token=begin, eos_token=end, sep_token=separator
    ).save_pretrained(folder)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder or of the stage `tokenizer`. Raises InputError when there is none."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise InputError(
            f"{folder}: no {FILE} in it. Give a folder made by Gradus (e.g. artifacts/translators/transformer)."
        )
    return Tokenizer.from_file(str(path))


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Piece ids of each text, without special pieces; text that spells one (`</s>`) is text, not a command."""
    tokenizer.encode_special_tokens = True
    return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def decode(tokenizer: Tokenizer, rows: list[list[int]]) -> list[str]:
    """Texts of piece ids; special pieces are left out."""
    return [text.strip() for text in tokenizer.decode_batch(rows, skip_special_tokens=True)]
