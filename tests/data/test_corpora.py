"""Corpora: what they hold, and what they say of broken input."""

import gzip
import itertools
import json
from pathlib import Path

import pytest

from core.errors import InputError
from data import corpora
from data.arrow import read_split
from data.corpora import Pair, kjv_bbe, read_pairs
from data.corpora.parallel_text import read_parallel
from data.splits import SPLITS, place, write_splits


def corpus(**values: object) -> corpora.CorpusConfig:
    return corpora.corpus_config(values, "params.yaml: corpus")


@pytest.fixture(scope="module")
def bible() -> list[Pair]:
    return list(read_pairs(corpus(name="kjv_bbe")))


def test_kjv_bbe_has_at_least_20000_pairs_of_the_same_verse(bible: list[Pair]) -> None:
    assert len(bible) >= 20_000
    by_document: dict[str, list[Pair]] = {}
    for pair in bible:
        by_document.setdefault(pair.document, []).append(pair)
    assert by_document["1:1"][0].source == "In the beginning God created the heaven and the earth."
    assert by_document["1:1"][0].target == "At the first God made the heaven and the earth."
    # Where the numberings differ: KJV Genesis 43:1 is 42:39 in the Basic English text.
    assert by_document["1:43"][0] == Pair(
        "1:43", "And the famine was sore in the land.", "Now the land was in bitter need of food."
    )
    # A psalm's title is not part of its first verse.
    assert by_document["19:3"][0].target.startswith("Lord, how greatly are they increased")
    assert by_document["66:22"][-1].source == "The grace of our Lord Jesus Christ be with you all. Amen."


def test_kjv_bbe_check_of_correspondence_finds_moved_chapters(bible: list[Pair]) -> None:
    genesis = [(p.source, p.target) for p in bible if p.document == "1:1"]
    moved = [(source, target) for (source, _), (_, target) in itertools.pairwise(genesis)]
    minimum = kjv_bbe.Config(name="kjv_bbe").min_lead
    assert kjv_bbe.lead(genesis) > minimum
    assert kjv_bbe.lead(moved) < minimum


def test_no_chapter_and_no_source_is_in_two_splits(tmp_path: Path) -> None:
    counts = write_splits(corpus(name="kjv_bbe", limit=6000), tmp_path)["pairs"]
    rows = {name: read_split(tmp_path, name) for name in SPLITS}
    assert {name: len(r) for name, r in rows.items()} == counts
    documents = [set(r["document"]) for r in rows.values()]
    assert sum(map(len, documents)) == len(set.union(*documents))
    train = {s.lower() for s in rows["train"]["source"]}
    assert not any(s.lower() in train for name in SPLITS[1:] for s in rows[name]["source"])


def test_multi30k_keeps_its_official_splits(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    counts = write_splits(corpus(name="multi30k", source="en", target="fr", prompts=0.3), tmp_path / "out")["pairs"]
    assert counts["validation"] == counts["test"] == 5
    assert counts["train"] + counts["prompts"] == 60
    assert counts["prompts"] > 5
    assert read_split(tmp_path / "out", "test")[0] == {
        "document": "test_2016_flickr.en.gz:1", "source": "A dog runs, number test_2016_flickr 0.",
        "target": "Un chien court, numéro test_2016_flickr 0.",
    }  # fmt: skip


def test_e2e_keeps_references_of_a_meaning_together(mirror: Path) -> None:
    pairs = list(read_pairs(corpus(name="e2e", prompts=0.5)))
    assert len(pairs) == 120
    assert pairs[1].target == 'trainset 0 has Thai food, "1".'
    assert place(pairs[0], corpus(name="e2e", prompts=0.5)) == place(pairs[1], corpus(name="e2e", prompts=0.5))


def test_splits_that_a_corpus_lacks_are_drawn_and_a_limit_is_for_each_split(mirror: Path, tmp_path: Path) -> None:
    files = {
        "train_files": ["multi30k/train.de.gz", "multi30k/train.en.gz"],
        "validation_files": ["multi30k/val.de.gz", "multi30k/val.en.gz"],
    }
    counts = write_splits(corpus(name="parallel_text", prompts=0.2, test=0.3, **files), tmp_path)["pairs"]
    assert counts["validation"] == 5
    assert counts["test"] > 8
    assert sum(counts.values()) == 65
    limited = list(read_pairs(corpus(name="multi30k", limit=3)))
    assert [p.split for p in limited] == ["train"] * 3 + ["validation"] * 3 + ["test"] * 3


def test_plain_text_files_relative_to_the_mirror(mirror: Path) -> None:
    files = {
        "train_files": ["multi30k/train.de.gz", "multi30k/train.en.gz"],
        "test_files": ["multi30k/val.de.gz", "multi30k/val.en.gz"],
    }
    pairs = list(read_pairs(corpus(name="parallel_text", **files)))
    assert [p.split for p in pairs] == ["train"] * 60 + ["test"] * 5


def test_a_folder_of_the_mirror_stands_for_a_hub_data_set(mirror: Path) -> None:
    (mirror / "mine").mkdir()
    (mirror / "mine" / "train.jsonl").write_text(
        '{"translation": {"en": "yes", "de": "ja"}}\n{"translation": {"en": "no", "de": "nein"}}\n'
    )
    pairs = list(
        read_pairs(corpus(name="hub", path="mine", source_column="translation.en", target_column="translation.de"))
    )
    assert [(p.source, p.target) for p in pairs] == [("yes", "ja"), ("no", "nein")]
    with pytest.raises(InputError, match=r"mine has no column 'translation.fr'; it has: translation"):
        list(
            read_pairs(corpus(name="hub", path="mine", source_column="translation.en", target_column="translation.fr"))
        )


def test_without_a_mirror_and_a_hub_the_error_names_variable_and_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADUS_DATA", raising=False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("multi30k", "e2e"):
        with pytest.raises(
            InputError,
            match=rf"corpus '{name}': GRADUS_DATA is not set, and the hub .*Set GRADUS_DATA to a data mirror",
        ):
            list(read_pairs(corpus(name=name)))
    monkeypatch.setenv("GRADUS_DATA", "/no/such/folder")
    with pytest.raises(InputError, match=r"GRADUS_DATA=/no/such/folder: no such folder"):
        list(read_pairs(corpus(name="multi30k")))


BROKEN = {
    "not UTF-8": (b"fine\n\xff\xfe\n", r"a\.txt:2: not UTF-8"),
    "empty": (b"", r"the file is empty"),
    "shorter": (b"one\n", r"a\.txt: ends after 1 lines, but .*b\.txt has more"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    content, message = BROKEN[case]
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.txt").write_bytes(b"" if case == "empty" else b"eins\nzwei\n")
    with pytest.raises(InputError, match=message):
        write_splits(corpus(name="parallel_text", train_files=[tmp_path / "a.txt", tmp_path / "b.txt"]), tmp_path)


def test_a_truncated_gzip_file_is_named(mirror: Path) -> None:
    path = mirror / "multi30k" / "train.en.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"train\.en\.gz: broken after line \d+"):
        list(read_pairs(corpus(name="multi30k")))
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(InputError, match=r"train\.en\.gz: ends after 0 lines"):
        list(read_pairs(corpus(name="multi30k")))


def test_an_unknown_corpus_or_key_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown corpus 'multi3k' - did you mean 'multi30k'\?"):
        corpus(name="multi3k")
    with pytest.raises(InputError, match=r"params\.yaml: corpus: unknown key 'promts' - did you mean 'prompts'\?"):
        corpus(name="e2e", promts=0.1)


TABLES = {
    "t.csv": "q,a\none,eins\ntwo,zwei\none,uno\n,leer\n",
    "t.jsonl": "".join(
        json.dumps({"q": q, "a": a}) + "\n" for q, a in [("one", "eins"), ("two", "zwei"), ("one", "uno"), ("", "leer")]
    ),
    "t.json": json.dumps([{"q": "one", "a": "eins"}, {"q": "two", "a": "zwei"}, {"q": "one", "a": "uno"}]),
}


@pytest.mark.parametrize("name", [*TABLES, "t.csv.gz"])
def test_a_table_has_a_pair_for_each_row(name: str, tmp_path: Path) -> None:
    text = TABLES[name.removesuffix(".gz")].encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    config = corpus(name="table", train_file=str(tmp_path / name), source_column="q", target_column="a")
    pairs = [("one", "eins"), ("two", "zwei"), ("one", "uno")]
    assert list(read_pairs(config)) == [Pair(q, q, a, "train") for q, a in pairs]
    assert corpora.outside(config) == [str(tmp_path / name)]
    with_test = corpus(
        name="table",
        train_file=str(tmp_path / name),
        test_file=str(tmp_path / name),
        source_column="q",
        target_column="a",
    )
    assert with_test.official == {"test"}
    assert len(list(read_pairs(with_test))) == 6


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "q,b\none,eins\n", r"t\.csv:2: no column 'a'; it has: q, b\. Name your columns"),
        (
            "t.jsonl",
            '{"q": "one", "a": "eins"}\n{"q": "two", "a": 2}\n',
            r"t\.jsonl:2: column 'a' has int, text expected",
        ),
        ("t.jsonl", '{"q": "one"\n', r"t\.jsonl:1: not JSON"),
        ("t.csv", "q,a\n,\n", r"t\.csv: no row has both an input and an output"),
        ("t.xls", "", r"t\.xls: its name must end in"),
    ],
)
def test_a_wrong_table_is_named_with_its_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        list(read_pairs(corpus(name="table", train_file=str(tmp_path / name), source_column="q", target_column="a")))


def test_without_prompts_there_is_no_such_split(tmp_path: Path) -> None:
    counts = write_splits(corpus(name="kjv_bbe", limit=3000, prompts=0), tmp_path)["pairs"]
    assert counts["prompts"] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test", "train", "validation"]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    for name, text in (("a.en", "A man.\nA dog.\n"), ("a.de", "Ein Mann.\nEin Hund.\n")):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
    first, second = read_parallel(tmp_path / "a.en", tmp_path / "a.de", None)
    assert (first.source, first.target) == ("A man.", "Ein Mann.")
    assert (second.source, second.target) == ("A dog.", "Ein Hund.")
