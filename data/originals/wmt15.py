"""WMT15's manual evaluation: the rankings that Appraise recorded, joined with the texts that were ranked.

Two originals are read:

- `wmt15.xml.gz`, the dump of Appraise. WMT's CSV files are made from it; they have pairs of ranks, and no texts either.

      <HIT source-language="deu" target-language="eng" ...>
        <ranking-task id="581">                                        <- line of the test set, from 1
          <ranking-result user="..." duration="...">                   <- one labeler's ranking; empty if skipped
            <translation system="newstest2015.KIT.4017.de-en.txt" rank="2" />
            <translation system="newstest2015.A.1.de-en.txt,newstest2015.B.2.de-en.txt" rank="1" />   <- equal outputs

- `wmt15-submitted-data.tgz`, the test sets and what the systems made of them, one sentence a line:

      .../txt/sources/newstest2015-deen-src.de
      .../txt/references/newstest2015-deen-ref.en
      .../txt/system-outputs/newstest2015/de-en/newstest2015.KIT.4017.de-en

https://github.com/cfedermann/wmt15 (README.md, data/xml2csv.py)
https://www.statmt.org/wmt16/metrics-task (the archive's names, which are those of 2015)
"""

import gzip
import html
import json
import re
import tarfile
import xml.etree.ElementTree as ElementTree
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from core.errors import InputError
from data.originals.gzipped import gzipped

RANKINGS, TEXTS = "wmt15.xml.gz", "wmt15-submitted-data.tgz"
FEWEST = 4  # responses of a ranking: those with fewer are left out
LANGUAGES = {"ces": "cs", "deu": "de", "fin": "fi", "fre": "fr", "rus": "ru"}
LARGEST_TEXT, LARGEST_TEXTS = 20_000_000, 1_000_000_000  # bytes of one text file, and of all of them
_INTO_ENGLISH = re.compile(r"news\w*2015(\..+\.\w\w-en|-\w\wen-(src\.\w\w|ref\.en))")

Texts = dict[str, list[bytes]]


class Judgment(NamedTuple):
    """One labeler's ranking, as Appraise has it: names of systems, no texts."""

    source_language: str
    segment: int
    """Line of the test set, from 1."""
    labeler: str
    ranks: list[tuple[list[str], int]]
    """The systems of each response and its rank; 1 is best."""


def convert(originals: Path, folder: Path) -> dict[str, int]:
    """Writes `rankings.jsonl.gz`, in the format `wmt`, and returns counts.

    Kept are rankings of translations into English with four responses or more. Labelers are numbered in the order of their first
    ranking: their names in the dump stay out. A response whose system's text is missing is left out, and counted.

    Raises:
        InputError: a file is broken, or has another form.
    """
    texts = _texts_into_english(originals / TEXTS)
    labelers: dict[str, str] = {}
    counts: Counter[str] = Counter(rankings=0, responses=0)
    with gzipped(folder / "rankings.jsonl.gz") as lines:
        for judgment in _judgments_into_english(originals / RANKINGS):
            responses = [
                response for systems, rank in judgment.ranks if (response := _response(systems, rank, judgment, texts))
            ]
            counts["responses_without_text"] += len(judgment.ranks) - len(responses)
            if len(responses) < FEWEST:
                counts["rankings_left_out"] += 1
                continue
            labeler = labelers.setdefault(judgment.labeler, f"labeler-{len(labelers) + 1:03}")
            record = _record(judgment, labeler, responses, texts)
            lines.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            counts.update(rankings=1, responses=len(responses))
    if not counts["rankings"]:
        raise InputError(f"{TEXTS}: no system of {RANKINGS} has a text in it. Its form must have changed.")
    return {**counts, "labelers": len(labelers)}


def _judgments_into_english(path: Path) -> Iterator[Judgment]:
    try:
        with gzip.open(path, "rb") as stream:
            for _, hit in ElementTree.iterparse(stream):
                if hit.tag != "HIT":
                    continue
                if hit.attrib["target-language"] == "eng":
                    yield from _judgments(hit)
                hit.clear()
    except (OSError, EOFError, zlib.error, ElementTree.ParseError, KeyError, ValueError) as error:
        raise InputError(f"{path.name}: not a dump of Appraise ({type(error).__name__}: {error}).") from None


def _judgments(hit: ElementTree.Element) -> Iterator[Judgment]:
    for task in hit.iter("ranking-task"):
        for result in task.iter("ranking-result"):
            ranks = [
                ([name.removesuffix(".txt") for name in each.attrib["system"].split(",")], int(each.attrib["rank"]))
                for each in result.iter("translation")
            ]
            if ranks:
                yield Judgment(hit.attrib["source-language"], int(task.attrib["id"]), result.attrib["user"], ranks)


def _texts_into_english(path: Path) -> Texts:
    """Lines of the files that matter, by the files' names. They are read out of the archive: nothing is unpacked to the disk."""
    texts: Texts = {}
    total = 0
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                place = PurePosixPath(member.name)
                if not (member.isfile() and "txt" in place.parts and _INTO_ENGLISH.fullmatch(place.name)):
                    continue
                total += member.size
                if member.size > LARGEST_TEXT or total > LARGEST_TEXTS:
                    raise InputError(f"{path.name}: {member.name} has {member.size:,} bytes, too many for a text.")
                stream = archive.extractfile(member)
                assert stream is not None  # it is a file
                texts[place.name] = stream.read().split(b"\n")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path.name}: a broken archive ({error}). Fetch it again.") from None
    return texts


def _record(judgment: Judgment, labeler: str, responses: list[dict[str, Any]], texts: Texts) -> dict[str, Any]:
    """A record of the format `wmt`."""
    language = LANGUAGES[judgment.source_language]
    test_set = judgment.ranks[0][0][0].partition(".")[0]
    return {
        "id": f"wmt15-{judgment.source_language}-{judgment.segment}",
        "source_language": judgment.source_language,
        "prompt": _line(f"{test_set}-{language}en-src.{language}", judgment.segment, texts),
        "reference": _line(f"{test_set}-{language}en-ref.en", judgment.segment, texts),
        "labeler": labeler,
        "responses": responses,
    }


def _response(systems: list[str], rank: int, judgment: Judgment, texts: Texts) -> dict[str, Any] | None:
    """The response of systems with equal outputs; None if the archive has the text of none of them."""
    for system in systems:
        if system in texts:
            names = [name.partition(".")[2] for name in systems]  # without the test set
            return {"systems": names, "text": _line(system, judgment.segment, texts), "rank": rank}
    return None


def _line(file: str, number: int, texts: Texts) -> str:
    if file not in texts:
        raise InputError(f"{TEXTS}: no file {file} in it. Its form must have changed.")
    if not 1 <= number <= len(texts[file]):
        raise InputError(f"{TEXTS}: {file} has no line {number}.")
    try:
        text = texts[file][number - 1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{TEXTS}: {file}:{number}: not UTF-8 ({error.reason}).") from None
    return " ".join(html.unescape(text).split())  # as labelers saw it in a web page
