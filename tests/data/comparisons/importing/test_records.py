"""Files as they come, and as they should not come."""

import gzip
import json
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import InputError
from data.comparisons.importing import records
from data.comparisons.importing.records import Problem, Records


def zst(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zst}
PACKED = ["", *COMPRESS]


def read(path: Path, content: bytes) -> list[tuple[int, Any]]:
    path.write_bytes(COMPRESS[path.suffix](content) if path.suffix in COMPRESS else content)
    return list(Records(str(path)))


@pytest.mark.parametrize("name", [name + packed for name in ("r.jsonl", "r.ndjson") for packed in PACKED])
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
@pytest.mark.parametrize("name", ["r.json" + packed for packed in PACKED])
def test_an_array_is_read_item_by_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int) -> None:
    monkeypatch.setattr(records, "_CHUNK", chunk)
    items = [{"a": 1, "t": 'br]ack"ets{ü\u2028'}, {}, {"b": [[{"c": None}]]}, {"long": "x" * 1000}]
    written = json.dumps(items, ensure_ascii=False, indent=1).encode()
    assert read(tmp_path / name, b"\xef\xbb\xbf \n" + written + b"\n") == list(enumerate(items, start=1))
    assert read(tmp_path / name, b" [ ] ") == []


def test_wrong_items_leave_the_others(tmp_path: Path) -> None:
    records_read = read(
        tmp_path / "r.json", b'[{"a": 1}, 12345, {"t": "caf\xe9"}, {"n": NaN}, {"n": [-Infinity]}, {"a": 2}]'
    )
    assert records_read == [
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


@pytest.mark.parametrize("name", ["r.csv" + packed for packed in PACKED])
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
    hub_records = Records("hub:owner/name:train")
    assert list(hub_records) == [(1, {"p": "a"}), (2, {"p": "b"})]
    assert hub_records.name == "owner/name:train"
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
    Path("r.parquet.gz").touch()
    with pytest.raises(InputError, match=r"must end in .* \(or \.gz, \.xz, \.zst after the first four\)"):
        Records("r.parquet.gz")
    for ending, compress in COMPRESS.items():
        whole = compress(json.dumps({"a": list(range(100_000))}).encode() + b"\n")
        for broken in (whole[:-50], b"\0" * 9 + whole, b"no archive"):
            Path(f"r.jsonl{ending}").write_bytes(broken)
            with pytest.raises(InputError, match=r"cannot be read to its end"):
                list(Records(f"r.jsonl{ending}"))


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_file_of_several_compressed_parts_is_read_to_its_end(tmp_path: Path, ending: str) -> None:
    parts = [COMPRESS[ending](b'{"a": %d}\n' % i) for i in range(3)]
    (tmp_path / f"r.jsonl{ending}").write_bytes(b"".join(parts))
    assert [line for line, _ in Records(str(tmp_path / f"r.jsonl{ending}"))] == [1, 2, 3]


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("name", ["r.jsonl", "r.json", "r.csv"])
def test_a_small_file_that_unpacks_to_a_huge_one_fills_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ending: str
) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 1_000_000)
    path = tmp_path / f"{name}{ending}"
    path.write_bytes(COMPRESS[ending]((b'[{"a": "' if name == "r.json" else b"") + b"a" * 60_000_000))
    assert path.stat().st_size < 300_000
    tracemalloc.start()
    try:
        problems = [why for _, why in Records(str(path))]
    except InputError as error:
        problems = [Problem(str(error))]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(problems) == 1
    assert peak < 25_000_000


def test_an_xz_file_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    packed = lzma.compress(b"{}", format=lzma.FORMAT_ALONE, preset=0)
    asking = packed[:1] + (1 << 30).to_bytes(4, "little") + packed[5:]  # the size of the decoder's dictionary
    for content, fits in ((packed, True), (asking, False)):
        (tmp_path / "r.jsonl.xz").write_bytes(content)
        if fits:
            assert list(Records(str(tmp_path / "r.jsonl.xz"))) == [(1, b"{}")]
        else:
            with pytest.raises(InputError, match=r"cannot be read to its end \(Memory usage limit exceeded"):
                list(Records(str(tmp_path / "r.jsonl.xz")))


def test_how_far_the_reading_is(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(b'{"a": 1}\n' * 4)
    file_records = Records(str(tmp_path / "r.jsonl"))
    assert (file_records.total, file_records.done) == (36, 0)
    assert [file_records.done for _ in file_records] == [9, 18, 27, 36]
    assert file_records.done == 36
