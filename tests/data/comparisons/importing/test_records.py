"""Files as they come, and as they should not come."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import InputError
from data.comparisons.importing import records
from data.comparisons.importing.records import Problem, Records


def read(path: Path, content: bytes) -> list[tuple[int, Any]]:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return list(Records(str(path)))


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_lines_have_their_numbers(tmp_path: Path, name: str) -> None:
    assert read(tmp_path / name, b'\xef\xbb\xbf{"a": 1}\n\n  \n\xff\n{"b": 2}') == [
        (1, b'{"a": 1}\n'),
        (4, b"\xff\n"),
        (5, b'{"b": 2}'),
    ]


def test_a_line_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 100)
    records_read = read(tmp_path / "r.jsonl", b"a" * 99 + b"\n" + b"b" * 5000 + b"\n" + b"c" * 101)
    assert records_read == [(1, b"a" * 99 + b"\n"), *((n, Problem("longer than 100 bytes")) for n in (2, 3))]


@pytest.mark.parametrize("chunk", [1, 7, 1_000_000])
@pytest.mark.parametrize("name", ["r.json", "r.json.gz"])
def test_an_array_is_read_item_by_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int) -> None:
    monkeypatch.setattr(records, "_CHUNK", chunk)
    items = [{"a": 1, "t": 'br]ack"ets{ü\u2028'}, {}, {"b": [[{"c": None}]]}, {"long": "x" * 1000}]
    written = json.dumps(items, ensure_ascii=False, indent=1).encode()
    assert read(tmp_path / name, b"\xef\xbb\xbf \n" + written + b"\n") == list(enumerate(items, start=1))
    assert read(tmp_path / name, b" [ ] ") == []


def test_wrong_items_leave_the_others(tmp_path: Path) -> None:
    found = read(tmp_path / "r.json", b'[{"a": 1}, 12345, {"t": "caf\xe9"}, {"n": NaN}, {"n": [-Infinity]}, {"a": 2}]')
    assert found == [
        (1, {"a": 1}),
        (2, Problem("a JSON object expected")),
        (3, Problem("not UTF-8 (byte 0xe9 at byte 10 of the record)")),
        (4, Problem("NaN is not a number")),
        (5, Problem("-Infinity is not a number")),
        (6, {"a": 2}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1}, {"b": ]', r"item 2 is not JSON"),
        (b'[{"a": 1}, {"b": 1', r"item 2 is not JSON"),
        (b'[{"a": 1} {"b": 1}]', r"']' expected, found '{'"),
        (b'[{"a": 1}', r"']' expected, found 'the end'"),
        (b"text", r"'\[' expected, found 't'"),
        (b"", r"'\[' expected, found 'the end'"),
    ],
)
def test_a_broken_array_cannot_be_read_on(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path / "r.json", content)


def test_lines_under_the_name_of_an_array(tmp_path: Path) -> None:
    assert read(tmp_path / "r.json", b'{"a": 1}\n{"b": 2}\n') == [(1, b'{"a": 1}\n'), (2, b'{"b": 2}\n')]


@pytest.mark.parametrize("name", ["r.csv", "r.csv.gz"])
def test_csv_rows_have_the_number_of_their_first_line(tmp_path: Path, name: str) -> None:
    long = b"x" * 1_000_000  # beyond the limit that the csv module begins with
    rows = b'\xef\xbb\xbfp,q\r\n1,"two\nlines ""quoted"""\n3,caf\xe9\n1,2,3\n\n4,' + long + b"\n"
    assert read(tmp_path / name, rows) == [
        (2, {"p": "1", "q": 'two\nlines "quoted"'}),
        (4, Problem("not UTF-8 (byte 0xe9 at byte 5 of the record)")),
        (5, Problem("3 cells, but the header has 2")),
        (7, {"p": "4", "q": "x" * 1_000_000}),
    ]


def test_csv_with_broken_quotes_goes_on_with_the_next_line(tmp_path: Path) -> None:
    (line, problem), good = read(tmp_path / "r.csv", b'p,q\n1,"a"b\n2,c\n')
    assert (line, good) == (2, (3, {"p": "2", "q": "c"}))
    assert "not CSV" in problem.why
    with pytest.raises(InputError, match=r"a column's name is in the header twice"):
        read(tmp_path / "r.csv", b"p,p\n1,2\n")


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"p": ["a", None], "r": [["x", "y"], []]}), tmp_path / "r.parquet")
    assert list(Records(str(tmp_path / "r.parquet"))) == [(1, {"p": "a", "r": ["x", "y"]}), (2, {"p": None, "r": []})]
    (tmp_path / "r.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"cannot be read as parquet"):
        list(Records(str(tmp_path / "r.parquet")))


def test_a_hub_data_set_in_the_mirror(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (mirror / "owner" / "name").mkdir(parents=True)
    (mirror / "owner" / "name" / "train.jsonl").write_text('{"p": "a"}\n{"p": "b"}\n')
    found = Records("hub:owner/name:train")
    assert list(found) == [(1, {"p": "a"}), (2, {"p": "b"})]
    assert found.name == "owner/name:train"
    with pytest.raises(InputError, match=r"hub:owner/name:nosplit: .*Check the name"):
        list(Records("hub:owner/name:nosplit"))
    with pytest.raises(InputError, match=r"OWNER/NAME:SPLIT"):
        list(Records("hub:owner/name"))


def test_a_file_of_the_mirror(mirror: Path) -> None:
    (mirror / "some").mkdir()
    (mirror / "some" / "r.jsonl").write_text('{"a": 1}\n')
    assert list(Records("some/r.jsonl")) == [(1, b'{"a": 1}\n')]


def test_files_that_cannot_be_read_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        Records("none.jsonl")
    Path("r.txt").touch()
    with pytest.raises(InputError, match=r"must end in \.jsonl"):
        Records("r.txt")
    Path("r.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 100_000)[:-50])
    with pytest.raises(InputError, match=r"cannot be read to its end"):
        list(Records("r.jsonl.gz"))


def test_how_far_the_reading_is(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(b'{"a": 1}\n' * 4)
    found = Records(str(tmp_path / "r.jsonl"))
    assert (found.total, found.done) == (36, 0)
    assert [found.done for _ in found] == [9, 18, 27, 36]
    assert found.done == 36
