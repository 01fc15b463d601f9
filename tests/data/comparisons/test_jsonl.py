"""Lines of canonical records, there and back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.comparisons.jsonl import parse_ranking, write_jsonl, write_pairs
from data.comparisons.ranking import Ranking


def test_origin_is_the_files_unless_given(good: dict[str, Any]) -> None:
    assert parse_ranking(json.dumps(good).encode(), "file.jsonl").origin == "test"
    del good["origin"]
    for line in (json.dumps(good), f"  {json.dumps(good)}\r\n", json.dumps({**good, "origin": None})):
        assert parse_ranking(line.encode(), 'a "file".jsonl').origin == 'a "file".jsonl'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{not json", r"^not JSON \(.* at column 2\)"),
        (b'{"prompt": "p",}', r"^not JSON \(.* at column 1[56]\)"),
        (b'{"prompt": "caf\xe9"}', r"^not UTF-8 \(.* at byte 15\)"),
        (b"[1]", r"^a JSON object expected"),
        (b"null", r"^a JSON object expected"),
        (b'{"ranks": [1, NaN]}', r"^NaN is not a number"),
        (b"[" * 100_000, r"^(nested too deeply|not JSON)"),
        (b'{"responses": ["a"], "ranks": [1], "prompt": "p", "labeler": "l"}', r"^responses: K = 1"),
        (b'{"prompt": "\\ud800", "responses": ["a", "b"], "ranks": [1, 2], "labeler": "l"}', r"^prompt: .*unicode"),
    ],
)
def test_a_wrong_line_says_what_is_wrong(line: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_ranking(line, "f")


def test_what_is_written_is_read_back(tmp_path: Path, make: Callable[..., Ranking]) -> None:
    records = [
        make(reference="r", systems=(("s1",), ("s2", "s3"), ()), ranks=(1, None, 2), weight=0.1, id="x"),
        make(prompt="<script>alert('ü')</script>\u2028\n\n", time="2024-01-02"),
        make(messages=[{"role": "user", "content": " spaces stay "}]),
        make(responses=["x" * 1_000_000, "b", "c"]),
    ]
    assert write_jsonl(iter(records), tmp_path / "out.jsonl") == 4
    lines = (tmp_path / "out.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [parse_ranking(line, "other") for line in lines] == records


def test_pairs_are_the_strict_comparisons(tmp_path: Path, make: Callable[..., Ranking]) -> None:
    record = make(responses=["a", "b", "c", "d"], ranks=[3, 1, None, 1], weight=0.5)
    assert write_pairs([record], tmp_path / "pairs.jsonl") == 2
    found = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    common = {"prompt": "p", "rejected": "a", "labeler": "ann", "weight": 0.5, "margin": 2}
    assert found == [{**common, "chosen": "b"}, {**common, "chosen": "d"}]
