"""Prompts of a language model: a source in its template, as token ids; the token that ends a text."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.errors import InputError


def end_token(tokenizer: PreTrainedTokenizerBase, folder: Path | str) -> int:
    """The token that ends a text. Raises InputError when the folder's tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"{folder}: its tokenizer has no end token (eos_token), where texts end. Name one in its files."
        )
    return int(tokenizer.eos_token_id)


def end_tokens(tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel, folder: Path | str) -> list[int]:
    """The tokens after which a base writes nothing more: its tokenizer's end token first, then those of its generation config.

    A model for chats often ends a turn with a token of its own (`<|im_end|>`), which only its generation config names.

    Raises:
        InputError: the folder's tokenizer has no end token.
    """
    config = base.generation_config
    named = config.eos_token_id if config is not None and config.eos_token_id is not None else []
    return list(dict.fromkeys([end_token(tokenizer, folder), *(named if isinstance(named, list) else [named])]))


def prompts(tokenizer: PreTrainedTokenizerBase, template: str, sources: Sequence[str]) -> list[list[int]]:
    """Token ids of the sources in their template, as the tokenizer begins a text. They are not ended, though it may end every text.

    A source that spells a special token is text. Where the template spells one, it is that token, in the template and in sources.
    """
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    texts = [template.format_map({"source": source}) for source in sources]
    tokens = tokenizer(texts, split_special_tokens=not any(token in template for token in special))["input_ids"]
    if tokenizer.eos_token_id is not None and tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id:
        tokens = [ids[:-1] for ids in tokens]
    return cast(list[list[int]], tokens)
