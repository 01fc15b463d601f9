"""Text as token ids and back, with the tokenizer that all models of a run share. `tokenizer_training.py` trains it."""

from pathlib import Path

from tokenizers import Tokenizer

from core.errors import InputError

# Tokens with a meaning of their own, at ids 0..3 in every vocabulary trained here.
PAD, BEGIN, END, SEPARATOR = range(4)
SPECIAL = ("<pad>", "<s>", "</s>", "<sep>")
FILE = "tokenizer.json"


def unknown_token(tokenizer: Tokenizer) -> int | None:
    """The id of the token that stands for what the vocabulary lacks; None of a vocabulary that can write everything."""
    name = getattr(tokenizer.model, "unk_token", None)  # a Unigram model has none of that name
    return None if name is None else tokenizer.token_to_id(name)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder or of the stage `tokenizer`. Raises InputError when there is none."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise InputError(
            f"{folder}: no {FILE} in it. Give a folder made by Gradus (e.g. artifacts/translators/transformer)."
        )
    return Tokenizer.from_file(str(path))


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens; text that spells one (`</s>`) is text, not a command."""
    tokenizer.encode_special_tokens = True
    return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def decode(tokenizer: Tokenizer, rows: list[list[int]]) -> list[str]:
    """Texts of token ids; special tokens are left out."""
    return [text.strip() for text in tokenizer.decode_batch(rows, skip_special_tokens=True)]
