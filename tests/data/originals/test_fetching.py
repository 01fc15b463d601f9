"""A public data set becomes a folder of the mirror that the corpora read: whole and checked, or not at all."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import InputError
from data.corpora import Pair, corpus_config, read_pairs
from data.originals.fetching import CONVERTERS, RECORD, check, fetch
from data.originals.gzipped import content_sha256
from data.originals.table import ORIGINALS, File

Publish = Callable[..., tuple[File, ...]]
MULTI30K = {
    f"{stem}.{language}.gz": gzip.compress("".join(f"{word} {i}.\n" for i in range(count)).encode())
    for stem, count in (("train", 7), ("val", 3), ("test_2016_flickr", 2))
    for language, word in (("en", "A dog, number"), ("de", "Ein Hund läuft, Nummer"), ("fr", "Un chien, numéro"))
}
E2E = (
    'mr,ref\r\n"name[The Vaults], priceRange[more than £30], near[Café Adriatic]",The Vaults has a 5 star rating.  £30.\r\n'
    '"name[Alimentum], area[city centre]","Alimentum, in the centre, is ""good""."\r\n'
).encode()
E2E_FILES = dict.fromkeys(("trainset.csv", "devset.csv", "testset_w_refs.csv"), E2E)


def test_every_data_set_of_the_table_has_a_converter_and_pinned_https_addresses() -> None:
    assert CONVERTERS.keys() == ORIGINALS.keys()
    for original in ORIGINALS.values():
        assert original.licence
        assert original.page.startswith("https://")
        assert len({file.name for file in original.files}) == len(original.files)
        for file in original.files:
            assert file.address.startswith("https://")
            assert (file.sha256 is None) == (file.size is None)
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32


def test_multi30k_is_read_by_its_corpus(publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("multi30k", MULTI30K)
    fetched = fetch("multi30k", tmp_path / "mirror")
    assert fetched.counts == {"train": 7, "validation": 3, "test": 2}
    assert not fetched.notes
    monkeypatch.setenv("GRADUS_DATA", str(tmp_path / "mirror"))
    pairs = list(read_pairs(corpus_config({"name": "multi30k", "source": "fr", "target": "de"}, "test")))
    assert len(pairs) == 12
    assert pairs[-1] == Pair("test_2016_flickr.fr.gz:2", "Un chien, numéro 1.", "Ein Hund läuft, Nummer 1.", "test")


def test_e2e_is_read_by_its_corpus(publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("e2e", E2E_FILES)
    fetched = fetch("e2e", tmp_path / "mirror")
    assert fetched.counts == {"train": 2, "validation": 2, "test": 2}
    monkeypatch.setenv("GRADUS_DATA", str(tmp_path / "mirror"))
    pairs = list(read_pairs(corpus_config({"name": "e2e"}, "test")))
    assert [pair.target for pair in pairs[:2]] == [
        "The Vaults has a 5 star rating.  £30.",
        'Alimentum, in the centre, is "good".',
    ]
    assert gzip.decompress((fetched.folder / "devset.csv.gz").read_bytes()) == E2E


def test_a_folder_has_the_converted_files_and_what_they_were_made_from(publish: Publish, tmp_path: Path) -> None:
    files = publish("e2e", E2E_FILES)
    folder = fetch("e2e", tmp_path).folder
    assert {path.name for path in folder.iterdir()} == {
        "trainset.csv.gz", "devset.csv.gz", "testset_w_refs.csv.gz", RECORD,
    }  # fmt: skip
    record = json.loads((folder / RECORD).read_text())
    assert record["licence"] == ORIGINALS["e2e"].licence
    assert record["files"][0] == {
        "address": files[0].address, "bytes": len(E2E), "sha256": files[0].sha256, "checked": True,
    }  # fmt: skip


def test_the_same_originals_give_the_same_bytes(publish: Publish, tmp_path: Path) -> None:
    publish("e2e", E2E_FILES)
    first, second = (fetch("e2e", tmp_path / name).folder for name in ("first", "second"))
    assert all((second / path.name).read_bytes() == path.read_bytes() for path in first.iterdir())


def test_a_wrong_checksum_leaves_nothing_and_an_older_folder_as_it_was(publish: Publish, tmp_path: Path) -> None:
    files = publish("multi30k", MULTI30K)
    wrong = (*files[:-1], replace(files[-1], sha256="0" * 64))
    ORIGINALS["multi30k"] = replace(ORIGINALS["multi30k"], files=wrong)  # put back by the fixture
    with pytest.raises(InputError, match="SHA-256"):
        fetch("multi30k", tmp_path / "mirror")
    assert not list((tmp_path / "mirror").iterdir())
    older = tmp_path / "mirror" / "multi30k"
    older.mkdir()
    (older / "mine").touch()
    with pytest.raises(InputError, match="SHA-256"):
        fetch("multi30k", tmp_path / "mirror")
    assert list((tmp_path / "mirror").iterdir()) == [older]
    assert (older / "mine").exists()


def test_an_unpublished_checksum_is_told_recorded_and_held_to(publish: Publish, tmp_path: Path) -> None:
    publish("multi30k", MULTI30K, unchecked=("val.fr.gz",))
    fetched = fetch("multi30k", tmp_path)
    assert len(fetched.notes) == 1
    assert fetched.notes[0].startswith(f"val.fr.gz: no checksum is published. {len(MULTI30K['val.fr.gz'])} bytes")
    assert fetch("multi30k", tmp_path).notes == fetched.notes
    publish("multi30k", {**MULTI30K, "val.fr.gz": gzip.compress(b"another\n")}, unchecked=("val.fr.gz",))
    with pytest.raises(InputError, match=r"at the first download it was .* Remove the folder to accept the new file"):
        fetch("multi30k", tmp_path)


def test_content_is_compared_with_the_one_behind_the_results(publish: Publish, tmp_path: Path) -> None:
    publish("e2e", E2E_FILES)
    sha256 = content_sha256(fetch("e2e", tmp_path).folder / "trainset.csv.gz")
    for expected, words in ((sha256, "has the content that"), ("0" * 64, "another content")):
        ORIGINALS["e2e"] = replace(ORIGINALS["e2e"], contents={"trainset.csv.gz": expected})
        (note,) = fetch("e2e", tmp_path).notes
        assert words in note


def test_what_is_wrong_is_said_before_a_download(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"multi40k: no such data set. Known are: multi30k, e2e, wmt15"):
        check(["multi40k"], tmp_path, force=False)
    (tmp_path / "e2e").mkdir()
    with pytest.raises(
        InputError, match=r"e2e: exists already. Leave the name out, or replace the folder with --force"
    ):
        check(["multi30k", "e2e"], tmp_path, force=False)
    check(["multi30k", "e2e"], tmp_path, force=True)
