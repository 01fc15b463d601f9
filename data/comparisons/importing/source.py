"""Config of an import of rankings; it needs no `datasets`, as `importing.py` does."""

from pydantic import field_validator, model_validator

from core.config import Config, nearest
from data.comparisons import formats
from data.comparisons.formats import AUTO
from data.comparisons.importing.columns import Columns


class Source(Config):
    """What to import, and how it is read: by a format's name, or by a mapping of columns."""

    source: str
    """A path (absolute, from the project or from the data mirror), or `hub:OWNER/NAME:SPLIT` or `hub:OWNER/NAME:CONFIG:SPLIT`."""
    format: str = AUTO
    """How records are written: `auto` (as `gradus comparisons --help` shows them), or the name of a format or of a published data set."""
    columns: Columns | None = None
    """Of any other table: the column that each field is read from. Instead of `format`; beside `argilla` and `label_studio`, of their questions."""
    higher_is_better: bool = False
    """Only with `label_studio`: the buckets' names end in scores, and the highest is the best. `false`: rank_1 is the best."""

    @field_validator("format")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in (AUTO, *formats.names()):
            raise ValueError(f"unknown format - {nearest(value, [AUTO, *formats.names()])}")
        return value

    @model_validator(mode="after")
    def _read_in_one_way(self) -> "Source":
        if self.columns and self.format != AUTO and self.format not in (annotated := formats.with_annotations()):
            raise ValueError(f"give either a format or columns (both with {' and '.join(annotated)} alone)")
        if self.columns and self.columns.response is not None and self.format != AUTO:
            raise ValueError(f"'response', of a row, is for tables: name 'responses' beside the format {self.format}")
        if self.higher_is_better and self.format not in (takers := formats.taking_higher_is_better()):
            raise ValueError(
                f"higher_is_better (--higher-is-better) is for the format {', '.join(takers)} alone, found beside "
                f"{'columns' if self.columns else self.format}: leave it out (columns name 'scores' where higher is better)"
            )
        return self
