"""Whole imports: files in, collection and report out."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import InputError
from data.comparisons import collection, formats
from data.comparisons.collection import rankings, read_collection
from data.comparisons.importing.appending import Appending, append_rankings
from data.comparisons.importing.joining import Place
from data.comparisons.importing.rankings import check_rankings, import_rankings
from data.comparisons.importing.reading import read
from data.comparisons.importing.records import Problem
from data.comparisons.importing.report import ImportReport
from data.comparisons.importing.source import Source
from data.comparisons.ranking import Ranking

Contents = Callable[[Path], dict[str, str]]


def lines(path: Path, *records: Any) -> str:
    """A file of these records, bytes as they are; returns its path."""
    path.write_bytes(b"\n".join(r if isinstance(r, bytes) else json.dumps(r).encode() for r in records) + b"\n")
    return str(path)


def sources(*files: str, **how: Any) -> list[Source]:
    return [Source(source=file, **how) for file in files]


def stored(folder: Path) -> list[Ranking]:
    return list(rankings(read_collection(folder)))


@pytest.fixture
def broken(tmp_path: Path, good: dict[str, Any]) -> str:
    return lines(
        tmp_path / "broken.jsonl",
        good,
        b"{not json",
        {**good, "responses": ["a"], "ranks": [1]},
        {**good, "ranks": [1, 2, float("nan")]},
        [1],
        b'{"prompt": "\xff"}',
        {**good, "responses": ["a", "b", "a"]},
        {**good, "prompt": "<script>alert(1)</script>"},
        {**good, "responses": ["a", "b", "x" * 1_000_000]},
    )


def test_wrong_records_are_dropped_and_named(tmp_path: Path, broken: str) -> None:
    report = import_rankings(sources(broken), tmp_path / "c")
    assert [(d.line, d.why.partition(" (")[0]) for d in report.dropped] == [
        (2, "not JSON"),
        (3, "responses: K = 1, a ranking needs at least 2 responses"),
        (4, "NaN is not a number: ranks are whole numbers from 1"),
        (5, "a JSON object expected"),
        (6, "not UTF-8"),
        (7, "a response is there twice: keep one of the two"),
    ]
    assert report.counts() == {
        "rows": 9, "kept": 3, "already_there": 0, "repeated": 0, "without_ranking": 0, "joined_pairs": 0,
        "joined_rankings": 0, "dropped": 6, "contradictions": 0,
    }  # fmt: skip
    assert [r.prompt for r in stored(tmp_path / "c")] == ["p", "<script>alert(1)</script>", "p"]
    assert json.loads(report.model_dump_json())["dropped"][0]["file"] == broken


def test_a_strict_import_refuses_the_whole_file(tmp_path: Path, broken: str, good: dict[str, Any]) -> None:
    before = sorted(tmp_path.iterdir())
    right = lines(tmp_path / "right.jsonl", good)
    with pytest.raises(InputError) as error:
        import_rankings(sources(right, broken), tmp_path / "c", strict=True)
    for number in range(2, 8):
        assert f"\n{broken}:{number}: " in f"\n{error.value}"
    assert "Nothing was imported" in str(error.value)
    assert sorted(tmp_path.iterdir()) == sorted([*before, Path(right)])
    assert import_rankings(sources(right), tmp_path / "c", strict=True).kept == 1


def test_many_problems_are_all_reported_and_some_shown(tmp_path: Path, good: dict[str, Any]) -> None:
    file = lines(tmp_path / "r.jsonl", *[b"{"] * 50, good)
    report = import_rankings(sources(file), tmp_path / "c")
    assert len(report.dropped) == 50
    assert len(report.problems()) == 21
    assert report.problems()[-1] == "(and 30 more)"
    with pytest.raises(InputError, match="further records not read") as error:
        import_rankings(sources(file), tmp_path / "c", strict=True)
    assert len(str(error.value).splitlines()) == 22


def test_importing_twice_changes_nothing(tmp_path: Path, good: dict[str, Any], contents: Contents) -> None:
    records = [{**good, "prompt": f"p{i}"} for i in range(5)]
    first = lines(tmp_path / "first.jsonl", *records[:3])
    grown = lines(tmp_path / "grown.jsonl", *records, records[4])
    folder = tmp_path / "c"
    assert import_rankings(sources(first), folder).kept == 3
    before = contents(folder)
    again = import_rankings(sources(first), folder)
    assert (again.kept, again.already_there) == (0, 3)
    assert contents(folder) == before
    more = import_rankings(sources(grown), folder)
    assert (more.kept, more.already_there, more.repeated) == (2, 3, 1)
    assert [r.prompt for r in stored(folder)] == [f"p{i}" for i in range(5)]


def test_a_file_without_a_ranking_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"e\.jsonl: the file is empty"):
        import_rankings(sources(lines(tmp_path / "e.jsonl", b"\n")), tmp_path / "c")
    with pytest.raises(InputError, match=r"(?s)no ranking in 1 records.*:1: prompt: "):
        import_rankings(sources(lines(tmp_path / "e.jsonl", {"text": "t"})), tmp_path / "c")
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        import_rankings(sources("none.jsonl"), tmp_path / "c")
    assert [p.name for p in tmp_path.iterdir()] == ["e.jsonl"]


def test_the_same_rankings_in_every_kind_of_file(tmp_path: Path, good: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    del good["origin"]
    records = [{**good, "prompt": f"p {i}", "ranks": [1, None, 2]} for i in range(3)]
    as_lines = "".join(json.dumps(r) + "\n" for r in records).encode()
    (tmp_path / "r.jsonl").write_bytes(as_lines)
    (tmp_path / "r.jsonl.gz").write_bytes(gzip.compress(as_lines))
    (tmp_path / "r.json").write_text(json.dumps(records))
    cells = [
        ",".join('"' + str(v if isinstance(v, str) else json.dumps(v)).replace('"', '""') + '"' for v in r.values())
        for r in records
    ]
    (tmp_path / "r.csv").write_text("\n".join([",".join(good), *cells]))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "r.parquet")
    for name in ("r.jsonl", "r.jsonl.gz", "r.json", "r.csv", "r.parquet"):
        rankings = [f for _, f in read(tmp_path / name)]
        assert rankings == [Ranking(**r, origin=name) for r in records], name


def test_reading_gives_rankings_and_problems_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("question,good,bad\nq,a,b\nq,a,a\n")
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad", "labeler": "=ann"}
    (one, ranking), (two, problem) = read(tmp_path / "r.csv", columns=columns)
    assert (one, two) == (2, 3)
    assert isinstance(ranking, Ranking)
    assert (ranking.labeler, ranking.origin) == ("ann", "r.csv")
    assert problem == Problem("a response is there twice: keep one of the two")


@pytest.fixture
def pairs(tmp_path: Path) -> list[str]:
    """Two files of pairs in which one labeler orders three responses, another contradicts himself."""
    columns = ("prompt", "chosen", "rejected", "labeler")
    rows = [
        ("p", "a", "b", "ann"), ("q", "a", "b", "ann"), ("p", "a", "b", "bob"), ("p", "b", "a", "bob"), ("p", "a", "a", "ann"),
        ("p", "b", "c", "ann"), ("p", "a", "b", "ann"), ("r", "a", "b", "cat"),
    ]  # fmt: skip
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    return [lines(tmp_path / "p1.jsonl", *records[:4]), lines(tmp_path / "p2.jsonl", *records[4:])]


PAIRS = {"columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "labeler": "labeler"}}


def test_pairs_are_joined_over_all_files(tmp_path: Path, pairs: list[str], good: dict[str, Any]) -> None:
    ordinary = lines(tmp_path / "o.jsonl", good)
    report = import_rankings(
        [*sources(pairs[0], **PAIRS), *sources(ordinary), *sources(pairs[1], **PAIRS)], tmp_path / "c"
    )
    rankings = {(r.prompt, r.labeler, r.responses, r.ranks) for r in stored(tmp_path / "c")}
    assert rankings == {
        ("p", "ann", ("a", "b", "c"), (1, 2, 2)),
        ("p", "ann", ("a", "b", "c"), (1, 2, 3)),
        ("q", "ann", ("a", "b"), (1, 2)),
        ("r", "cat", ("a", "b"), (1, 2)),
    }
    (cycle,) = report.contradictions
    assert (cycle.labeler, cycle.places) == ("bob", [Place(pairs[0], 3), Place(pairs[0], 4)])
    assert f"{pairs[0]}:3, {pairs[0]}:4: the pairs of labeler 'bob' contradict each other" in report.problems()
    assert report.counts() == {
        "rows": 9, "kept": 4, "already_there": 0, "repeated": 0, "without_ranking": 0, "joined_pairs": 3,
        "joined_rankings": 1, "dropped": 1, "contradictions": 1,
    }  # fmt: skip
    # A contradiction is a finding about the labeler, no wrong record: it does not refuse a strict import.
    with pytest.raises(InputError, match=r"p2\.jsonl:1: a response is there twice"):
        import_rankings(sources(*pairs, **PAIRS), tmp_path / "d", strict=True)
    assert import_rankings(sources(pairs[0], **PAIRS), tmp_path / "d", strict=True).kept == 2


def test_checking_reports_as_importing_does(tmp_path: Path, pairs: list[str], broken: str) -> None:
    both = [*sources(broken), *sources(*pairs, **PAIRS)]
    assert check_rankings(both) == import_rankings(both, tmp_path / "c")


class Several:
    """A format whose records hold several rankings, or none."""

    PAIRS = False

    @staticmethod
    def rankings(record: dict[str, Any]) -> Any:
        for number, ranks in enumerate(record["judgments"]):
            yield {"prompt": record["p"], "responses": ["a", "b"], "ranks": ranks, "labeler": f"labeler {number}"}
        if record.get("broken"):
            raise ValueError("broken: true, expected: nothing")


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "names", lambda: ["several"])
    monkeypatch.setattr(formats, "get", lambda name: Several)


@pytest.mark.usefixtures("several")
def test_a_format_may_find_several_rankings_in_a_record_or_none(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "r.jsonl",
        {"p": "p", "judgments": [[1, 2], [0, 1], [2, 1]]},
        {"p": "q", "judgments": []},
        {"p": "r", "judgments": [[1, 1]], "broken": True},
    )
    report = import_rankings(sources(file, format="several"), tmp_path / "c")
    assert [(r.prompt, r.labeler) for r in stored(tmp_path / "c")] == [
        ("p", "labeler 0"),
        ("p", "labeler 2"),
        ("r", "labeler 0"),
    ]
    assert (report.rows, report.kept, report.without_ranking) == (3, 3, 1)
    assert [(d.line, d.why[:7]) for d in report.dropped] == [(1, "ranks.0"), (3, "broken:")]


@pytest.mark.usefixtures("several")
def test_a_source_is_read_in_one_known_way() -> None:
    with pytest.raises(ValueError, match=r"unknown format - did you mean 'several'\?"):
        Source(source="f.jsonl", format="severel")
    with pytest.raises(ValueError, match="either a format or columns"):
        Source(source="f.jsonl", format="several", columns=PAIRS["columns"])


class Killed(BaseException):
    """What no handler of errors catches, as little as SIGKILL."""


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize("kind", ["single", "pairs"])
def test_a_killed_import_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: Contents, kind: str
) -> None:
    monkeypatch.setattr(collection, "SHARD_ROWS", 10)
    if kind == "single":
        file = lines(tmp_path / "r.jsonl", *({"p": f"p{i}", "judgments": [[1, 2]] * (i % 4)} for i in range(40)), b"{")
        how = {"format": "several"}
    else:
        rows = [{"p": f"p{i % 23}", "c": f"{i // 23}", "r": f"{i // 23 + 1}", "l": "ann"} for i in range(60)]
        file = lines(tmp_path / "r.jsonl", *rows, b"{")
        how = {"columns": {"prompt": "p", "chosen": "c", "rejected": "r", "labeler": "l"}}
    whole = import_rankings(sources(file, **how), tmp_path / "whole")

    add, calls = Appending.add, 0

    def dying(self: Any, record: Ranking) -> Any:
        nonlocal calls
        calls += 1
        if calls == 18:
            raise Killed
        return add(self, record)

    monkeypatch.setattr(Appending, "add", dying)
    with pytest.raises(Killed):
        import_rankings(sources(file, **how), tmp_path / "c")
    assert import_rankings(sources(file, **how), tmp_path / "c") == whole
    assert contents(tmp_path / "c") == contents(tmp_path / "whole")
    assert calls < 18 + whole.kept - 9  # the first shard's were not added again


def test_a_changed_file_is_read_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: dict[str, Any]
) -> None:
    monkeypatch.setattr(collection, "SHARD_ROWS", 2)
    file = lines(tmp_path / "r.jsonl", *({**good, "prompt": f"p{i}"} for i in range(9)))
    with monkeypatch.context() as patch:
        patch.setattr(ImportReport, "note", lambda *_: (_ for _ in ()).throw(Killed))
        (tmp_path / "r.jsonl").write_bytes((tmp_path / "r.jsonl").read_bytes() + b"{")
        with pytest.raises(Killed):
            import_rankings(sources(file), tmp_path / "c")
    lines(tmp_path / "r.jsonl", *({**good, "prompt": f"q{i}"} for i in range(9)))
    import_rankings(sources(file), tmp_path / "c")
    assert [r.prompt for r in stored(tmp_path / "c")] == [f"q{i}" for i in range(9)]


def test_a_process_that_is_killed_holds_no_lock(tmp_path: Path, good: dict[str, Any]) -> None:
    file = lines(tmp_path / "r.jsonl", *({**good, "prompt": f"p{i}"} for i in range(60_000)))
    code = (
        "from pathlib import Path; from data.comparisons.importing.rankings import *; "
        f"import_rankings([Source(source={file!r})], Path({str(tmp_path / 'c')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    journal = tmp_path / ".c.import" / "journal.json"
    deadline = time.monotonic() + 60
    while not journal.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert import_rankings(sources(file), tmp_path / "c").kept == 60_000
    assert len(set(read_collection(tmp_path / "c")["key"])) == 60_000
    assert not journal.parent.exists()


def test_an_import_adds_to_what_others_made(tmp_path: Path, good: dict[str, Any], make: Callable[..., Ranking]) -> None:
    append_rankings([make(origin="other")], tmp_path / "c")
    report = import_rankings(sources(lines(tmp_path / "r.jsonl", good, {**good, "labeler": "bob"})), tmp_path / "c")
    assert (report.kept, report.already_there) == (1, 1)


def test_the_bar_ends_once_with_all_bytes(tmp_path: Path, good: dict[str, Any], pairs: list[str]) -> None:
    many = lines(tmp_path / "r.jsonl", *({**good, "prompt": f"p{i}"} for i in range(2500)))
    seen: list[int] = []

    class Recorder:
        def update(self, done: int, facts: str = "") -> None:
            seen.append(done)

    def bar(total: int) -> Recorder:
        assert total == Path(many).stat().st_size + 2 * sum(Path(p).stat().st_size for p in pairs)
        seen.append(total)
        return Recorder()

    check_rankings([*sources(many), *sources(*pairs, **PAIRS)], bar)
    total, *done = seen
    assert done == sorted(done)
    assert (done[-1], done.count(total), len(done)) == (total, 1, 7)
