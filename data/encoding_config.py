"""Config of encoded sets; it needs no `datasets`, as `encoding.py` does."""

from pydantic import Field

from core.config import Config
from data.overlong import Overlong


class EncodingConfig(Config):
    """Settings of the stage `encoding`."""

    max_length: int = Field(default=64, ge=1)
    """Tokens of a source and of a target, without special tokens."""
    overlong: Overlong = "drop"
    """Pairs with a longer side are dropped (`drop`), or the end of that side is cut off (`truncate`). Both are counted."""
