"""Writes docs/reference/."""

from pathlib import Path

from gradus.reference.commands import commands_page
from gradus.reference.configuration import configuration_page

FOLDER = Path(__file__).parents[2] / "docs/reference"
PAGES = {"configuration.md": configuration_page, "commands.md": commands_page}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
