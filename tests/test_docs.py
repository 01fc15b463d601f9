"""What README, CONTRIBUTING and docs/ promise: short, in plain English, and no link or command that leads nowhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from gradus.cli import app

PROJECT = Path(__file__).parents[1]
GENERATED = PROJECT / "docs" / "reference"  # from the configs and commands, the table of old keys included
PAGES = sorted(
    path
    for path in [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").rglob("*.md")]
    if not path.is_relative_to(GENERATED)
)
MOST_README_LINES, MOST_WORDS = 120, 30
BANNED = re.compile(r"\b(pieces?|anew|stands?|mend(s|ed|ing)?|goes on|as it is)\b", re.IGNORECASE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def paragraphs(text: str) -> Iterator[str]:
    """Prose and list items, each on one line: no code, tables, headings, comments or pictures; code and links as one word."""
    block: list[str] = []
    for line in [*_FENCE.sub("\n", re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)).splitlines(), ""]:
        item = re.match(r"\s*([-*]|\d+\.) ", line)
        prose = line.strip() and not line.startswith(("|", "#", "![")) and not (line.startswith("    ") and not block)
        if block and (item or not prose):
            yield re.sub(r"`[^`]*`", "CODE", _LINK.sub(r"\g<text>", " ".join(block)))
            block = []
        if prose:
            block.append(line[item.end() :] if item else line.strip())


def sentences(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.!?])[)*\"]* (?=[*(\"]*[A-Z0-9])", paragraph)


def anchors(path: Path) -> set[str]:
    """The fragments that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_README_LINES


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_plain_english(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if BANNED.search(line)]
    assert not [s for p in paragraphs(text) for s in sentences(p) if len(s.split()) > MOST_WORDS]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.finditer(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link["target"]):
            continue
        file, _, fragment = link["target"].partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{name(page)}: {link['target']}: no such file"
        if fragment:
            assert fragment in anchors(target), f"{name(page)}: {link['target']}: no such heading"


def test_every_command_of_the_readme_exists() -> None:
    commands = re.findall(
        r"\bgradus((?: [a-z][a-z-]+){1,2})", _code((PROJECT / "README.md").read_text(encoding="utf-8"))
    )
    assert commands
    known = typer.main.get_command(app)
    for command in commands:
        words = command.split()
        group = known.commands.get(words[0])  # type: ignore[attr-defined]
        assert group, f"gradus {words[0]}: no such command"
        if hasattr(group, "commands"):
            assert words[1] in group.commands, f"gradus {command}: no such command"


def _code(text: str) -> str:
    inline = re.findall(r"`[^`\n]+`", text)
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    return "\n".join([*lines, *_FENCE.findall(text), *inline])
