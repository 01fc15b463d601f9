"""WMT15: what Appraise recorded, joined with the test set's texts, becomes rankings that the format `wmt` imports."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import InputError
from data.comparisons.collection import rankings, read_collection
from data.originals import wmt15
from data.originals.fetching import fetch
from data.originals.table import File

DUMP = """<?xml version="1.0" encoding="UTF-8"?>
<WMT15-results>

<HIT hit-id="32872282" source-language="deu" block-id="-1" target-language="eng">
<ranking-task id="2">
  <ranking-result duration="00:00:35.337000" user="jonny">
    <translation system="newstest2015.online-E.0.de-en.txt" rank="3" />
    <translation system="newstest2015.KIT.4017.de-en.txt" rank="2" />
    <translation system="newstest2015.Illinois.4085.de-en.txt,newstest2015.RWTH.1.de-en.txt" rank="1" />
    <translation system="newstest2015.lost.7.de-en.txt" rank="5" />
    <translation system="newstest2015.online-B.0.de-en.txt" rank="3" />
  </ranking-result>
  <ranking-result duration="00:00:01.000000" skipped="true" user="anna">
  </ranking-result>
</ranking-task>
<ranking-task id="1">
  <ranking-result duration="00:00:12.000000" user="few">
    <translation system="newstest2015.online-E.0.de-en.txt" rank="1" />
    <translation system="newstest2015.KIT.4017.de-en.txt" rank="2" />
    <translation system="newstest2015.online-B.0.de-en.txt" rank="2" />
  </ranking-result>
</ranking-task>
</HIT>
<HIT hit-id="019d6b1e" source-language="eng" block-id="-1" target-language="ces">
<ranking-task id="1">
  <ranking-result duration="00:00:12.000000" user="jan">
    <translation system="newstest2015.a.1.en-cs.txt" rank="1" />
    <translation system="newstest2015.b.1.en-cs.txt" rank="2" />
    <translation system="newstest2015.c.1.en-cs.txt" rank="3" />
    <translation system="newstest2015.d.1.en-cs.txt" rank="4" />
  </ranking-result>
</ranking-task>
</HIT>
<HIT hit-id="02" source-language="fre" block-id="-1" target-language="eng">
<ranking-task id="1">
  <ranking-result duration="00:00:12.000000" user="marie">
    <translation system="newsdiscusstest2015.a.1.fr-en.txt" rank="1" />
    <translation system="newsdiscusstest2015.b.1.fr-en.txt" rank="2" />
    <translation system="newsdiscusstest2015.c.1.fr-en.txt" rank="3" />
    <translation system="newsdiscusstest2015.d.1.fr-en.txt" rank="4" />
  </ranking-result>
</ranking-task>
</HIT>

</WMT15-results>
"""
GERMAN, FRENCH = "txt/system-outputs/newstest2015/de-en", "txt/system-outputs/newsdiscusstest2015/fr-en"
TEXTS = {
    "README": "not a text",
    "txt/sources/newstest2015-deen-src.de": "Guten Tag.\nDas Ergebnis beträgt 450 Mio. £.\n",
    "txt/references/newstest2015-deen-ref.en": "Hello.\nThe result is £450m.\n",
    f"{GERMAN}/newstest2015.online-E.0.de-en": "Hi.\nThe result is 450 mn £.\n",
    f"{GERMAN}/newstest2015.KIT.4017.de-en": "Hi!\nThe result   is at £ 450 &amp; million.\n",
    f"{GERMAN}/newstest2015.Illinois.4085.de-en": "Day.\nResult £ 450 million.\n",
    f"{GERMAN}/newstest2015.RWTH.1.de-en": "Day.\nResult £ 450 million.\n",
    f"{GERMAN}/newstest2015.online-B.0.de-en": "Good day.\n450 Mio.\n",
    "sgm/system-outputs/newstest2015/de-en/newstest2015.online-B.0.de-en": "<seg>not a text</seg>\n",
    "txt/sources/newsdiscusstest2015-fren-src.fr": "Bonjour.\n",
    "txt/references/newsdiscusstest2015-fren-ref.en": "Hello.\n",
    **{f"{FRENCH}/newsdiscusstest2015.{name}.1.fr-en": f"{name}.\n" for name in "abcd"},
}


def archive(texts: dict[str, str], *others: tarfile.TarInfo) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for other in others:
            tar.addfile(other)
        for name, text in texts.items():
            member = tarfile.TarInfo(f"wmt15-submitted-data/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    folder = tmp_path / "originals"
    folder.mkdir()
    (folder / "wmt15.xml.gz").write_bytes(gzip.compress(DUMP.encode()))
    (folder / "wmt15-submitted-data.tgz").write_bytes(archive(TEXTS))
    return folder


def convert(originals: Path) -> tuple[dict[str, int], list[dict[str, Any]]]:
    counts = wmt15.convert(originals, originals.parent)
    with gzip.open(originals.parent / "rankings.jsonl.gz", "rt", encoding="utf-8") as lines:
        return counts, [json.loads(line) for line in lines]


def test_rankings_into_english_are_joined_with_their_texts(originals: Path) -> None:
    counts, (german, french) = convert(originals)
    assert german == {
        "id": "wmt15-deu-2",
        "source_language": "deu",
        "prompt": "Das Ergebnis beträgt 450 Mio. £.",
        "reference": "The result is £450m.",
        "labeler": "labeler-001",
        "responses": [
            {"systems": ["online-E.0.de-en"], "text": "The result is 450 mn £.", "rank": 3},
            {"systems": ["KIT.4017.de-en"], "text": "The result is at £ 450 & million.", "rank": 2},
            {"systems": ["Illinois.4085.de-en", "RWTH.1.de-en"], "text": "Result £ 450 million.", "rank": 1},
            {"systems": ["online-B.0.de-en"], "text": "450 Mio.", "rank": 3},
        ],
    }
    assert (french["prompt"], french["reference"], french["labeler"]) == ("Bonjour.", "Hello.", "labeler-002")
    assert [response["text"] for response in french["responses"]] == ["a.", "b.", "c.", "d."]
    assert counts == {
        "rankings": 2, "responses": 8, "responses_without_text": 1, "rankings_left_out": 1, "labelers": 2,
    }  # fmt: skip


def test_labelers_are_not_named(originals: Path) -> None:
    convert(originals)
    text = gzip.decompress((originals.parent / "rankings.jsonl.gz").read_bytes()).decode()
    assert not any(name in text for name in ("jonny", "anna", "few", "jan", "marie"))


def test_fetched_rankings_are_imported(
    publish: Callable[..., tuple[File, ...]], originals: Path, tmp_path: Path
) -> None:
    from data.comparisons.importing.rankings import import_rankings
    from data.comparisons.importing.source import Source

    publish("wmt15", {path.name: path.read_bytes() for path in originals.iterdir()}, ("wmt15-submitted-data.tgz",))
    fetched = fetch("wmt15", tmp_path / "mirror")
    assert "no checksum is published" in fetched.notes[0]
    source = Source(source=str(fetched.folder / "rankings.jsonl.gz"), format="wmt")
    report = import_rankings([source], tmp_path / "collection", strict=True)
    assert (report.rows, report.kept) == (2, 2)
    german = next(r for r in rankings(read_collection(tmp_path / "collection")) if "Ergebnis" in r.prompt)
    assert list(german.ranks) == [3, 2, 1, 3]


def test_nothing_of_the_archive_reaches_the_disk(originals: Path, tmp_path: Path) -> None:
    link = tarfile.TarInfo("txt/newstest2015.KIT.4017.de-en")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    outside = {"../../../txt/newstest2015.evil.1.de-en": "evil\n"}
    (originals / "wmt15-submitted-data.tgz").write_bytes(archive({**outside, **TEXTS}, link))
    before = set(tmp_path.rglob("*"))
    assert convert(originals)[0]["rankings"] == 2
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "rankings.jsonl.gz"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"txt/sources/newstest2015-deen-src.de": None}, "no file newstest2015-deen-src.de in it"),
        ({"txt/references/newstest2015-deen-ref.en": "Hello."}, "newstest2015-deen-ref.en has no line 2"),
        ({name: None for name in TEXTS if "system-outputs" in name}, "no system of wmt15.xml.gz has a text"),
    ],
)
def test_an_archive_of_another_form_is_refused(originals: Path, change: dict[str, str | None], message: str) -> None:
    texts = {name: text for name, text in {**TEXTS, **change}.items() if text is not None}
    (originals / "wmt15-submitted-data.tgz").write_bytes(archive(texts))
    with pytest.raises(InputError, match=message):
        convert(originals)


def test_broken_files_are_named(originals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wmt15, "LARGEST_TEXT", 20)
    with pytest.raises(InputError, match=r"bytes, too many for a text"):
        convert(originals)
    monkeypatch.undo()
    whole = archive(TEXTS)
    for length in (0, 5, len(whole) // 2, len(whole) - 40):
        (originals / "wmt15-submitted-data.tgz").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"wmt15-submitted-data.tgz: a broken archive .* Fetch it again"):
            convert(originals)
    (originals / "wmt15-submitted-data.tgz").write_bytes(whole)
    (originals / "wmt15.xml.gz").write_bytes(gzip.compress(DUMP[:-40].encode()))
    with pytest.raises(InputError, match=r"wmt15.xml.gz: not a dump of Appraise"):
        convert(originals)
