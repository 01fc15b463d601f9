"""Texts longer than a limit: dropped, or their end is cut off."""

from collections.abc import Sequence
from typing import Literal

Overlong = Literal["drop", "truncate"]


def apply_max_length(
    texts: Sequence[list[int]], max_length: int, overlong: Overlong
) -> tuple[list[int], list[list[int]]]:
    """Indices of the texts (token ids) that are read, and what is read of them: at most `max_length` tokens."""
    if overlong == "truncate":
        return list(range(len(texts))), [tokens[:max_length] for tokens in texts]
    indices = [i for i, tokens in enumerate(texts) if len(tokens) <= max_length]
    return indices, [texts[i] for i in indices]
