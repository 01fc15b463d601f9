"""What can be said of rankings as token ids; it needs no `datasets`, as `encoding.py` does."""

from typing import Literal

Weighting = Literal["none", "record", "labeler"]
FIELDS = {"prompt", "reference"}  # that a template may show
