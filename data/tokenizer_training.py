"""Trains the one vocabulary of a run, of byte-level BPE or of words, for both sides of the pairs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from core.config import Config
from data.tokenizer import BEGIN, END, PAD, SEPARATOR, SPECIAL

UNKNOWN = "▁<unk>"  # any word that a vocabulary of words lacks; ▁ stands for the space before it


class TokenizerConfig(Config):
    """Settings of the stage `tokenizer`."""

    kind: Literal["bpe", "words"] = "bpe"
    """`bpe`: byte-level BPE. `words`: the most frequent words, and one token for all others, as the first papers had it."""
    vocab_size: int = Field(default=4000, ge=6)
    """Tokens in the vocabulary, with 4 special ones and 256 bytes (of `words`: the unknown word). With `bpe` at least 260."""
    min_frequency: int = Field(default=2, ge=1)
    """How often a merge, or a word, must occur in the training text."""

    @model_validator(mode="after")
    def _has_all_bytes(self) -> "TokenizerConfig":
        if self.kind == "bpe" and self.vocab_size < 260:
            raise ValueError(f"vocab_size ({self.vocab_size}) must be 260 or more: 256 bytes and 4 special tokens")
        return self


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """BPE (Sennrich et al. 2016) over bytes, with no unknown words, where decoding restores the text; or a vocabulary of words."""
    if config.kind == "words":
        return _train_words(texts, config)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _train_words(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Words and punctuation marks, with the space before them (▁) as part of them, so decoding sets spaces right."""

    def words(model: models.WordLevel) -> Tokenizer:
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")]
        )
        tokenizer.decoder = decoders.Metaspace()
        return tokenizer

    counting = words(models.WordLevel())
    trainer = trainers.WordLevelTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[*SPECIAL, UNKNOWN],
        show_progress=False,
    )
    counting.train_from_iterator(texts, trainer)
    # A second tokenizer, in which the unknown word is no special token: decoding leaves special tokens out, and a reader must see it.
    tokenizer = words(models.WordLevel(counting.get_vocab(), unk_token=UNKNOWN))
    tokenizer.add_special_tokens(list(SPECIAL))
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
