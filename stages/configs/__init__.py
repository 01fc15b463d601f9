"""The sections of params.yaml that belong to stages; a section that configures a package is beside that package's code."""

from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

PARAMS = Path("params.yaml")
ItemName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]  # it is part of a stage's command
