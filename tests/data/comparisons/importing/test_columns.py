"""Tables with names of their own."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core.errors import InputError
from data.comparisons.importing.columns import Columns, parse_columns
from data.comparisons.ranking import ranking


def read(columns: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    (values,) = Columns(**columns).rankings(record)
    return ranking({**values, "origin": "o"}).model_dump(mode="json", exclude_defaults=True)


def test_a_pair() -> None:
    ranked = read(
        {"prompt": "question", "chosen": "answer_a", "rejected": "answer_b", "labeler": "meta.user", "id": "n"},
        {"question": "q", "answer_a": "good", "answer_b": "bad", "meta": {"user": 7}, "n": 12, "unused": 1},
    )
    assert ranked == {
        "prompt": "q", "responses": ["good", "bad"], "ranks": [1, 2], "labeler": "7", "id": "12", "origin": "o",
    }  # fmt: skip


def test_scores_of_a_list() -> None:
    record = {"p": "q", "completions": ["a", "b", "c", "d"], "rating": [3.5, 5, None, 3.5]}
    ranked = read({"prompt": "p", "responses": "completions", "scores": "rating"}, record)
    assert ranked["ranks"] == [2, 1, None, 2]
    assert ranked["labeler"] == "unknown"


def test_a_column_for_each_response_as_csv_has_them() -> None:
    record = {
        "p": "q",
        "x": "a",
        "y": "b",
        "z": "c",
        "rx": "2",
        "ry": "1",
        "rz": "",
        "w": "0.5",
        "s1": "m1",
        "s2": "m2",
        "s3": "m3",
    }
    columns = {
        "prompt": "p", "responses": ["x", "y", "z"], "ranks": ["rx", "ry", "rz"], "weight": "w",
        "systems": ["s1", "s2", "s3"], "labeler": "=gpt-4",
    }  # fmt: skip
    assert read(columns, record) == {
        "prompt": "q", "responses": ["a", "b", "c"], "ranks": [2, 1, None], "weight": 0.5, "labeler": "gpt-4",
        "systems": [["m1"], ["m2"], ["m3"]], "origin": "o",
    }  # fmt: skip


def test_chosen_and_rejected_chats() -> None:
    ask = {"role": "user", "content": "q"}
    chosen, rejected = ([ask, {"role": "assistant", "content": text}] for text in ("good", "bad"))
    ranked = read({"chosen": "chosen", "rejected": "rejected"}, {"chosen": chosen, "rejected": rejected})
    assert (ranked["messages"], ranked["prompt"], ranked["responses"]) == ([ask], "user: q", ["good", "bad"])
    rejected[0] = {"role": "user", "content": "another"}
    with pytest.raises(ValueError, match="answer different messages"):
        read({"chosen": "chosen", "rejected": "rejected"}, {"chosen": chosen, "rejected": rejected})


def test_a_time_stamp_of_a_table() -> None:
    record = {"a": "a", "b": "b", "p": "p", "t": datetime(2024, 5, 6)}
    assert read({"prompt": "p", "chosen": "a", "rejected": "b", "time": "t"}, record)["time"] == "2024-05-06T00:00:00"


@pytest.mark.parametrize(
    ("columns", "record", "message"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, {"p": "q", "a": "x"}, r"no column 'b'; there are: p, a"),
        ({"prompt": "p.q", "chosen": "a", "rejected": "b"}, {"p": "q", "a": "x", "b": "y"}, r"no column 'p\.q'"),
        ({"prompt": "p", "responses": "r", "ranks": "k"}, {"p": "q", "r": "text", "k": [1]}, r"responses: not JSON"),
        ({"prompt": "p", "responses": "r", "ranks": "k"}, {"p": "q", "r": {}, "k": [1]}, r"responses: a list expected"),
        ({"prompt": "p", "responses": "r", "scores": "k"}, {"p": "q", "r": [], "k": ["x"]}, r"scores: a number.*'x'"),
        (
            {"prompt": "p", "responses": "r", "scores": "k"},
            {"p": "q", "r": [], "k": [float("nan")]},
            r"scores: a finite",
        ),
    ],
)
def test_a_wrong_row_says_what_is_wrong(columns: dict[str, Any], record: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(Columns(**columns).rankings(record))


def test_seconds_are_a_time_and_milliseconds_are_not() -> None:
    columns, row = {"prompt": "p", "chosen": "a", "rejected": "b", "time": "t"}, {"a": "a", "b": "b", "p": "p"}
    assert read(columns, {**row, "t": 1_682_351_591.5})["time"] == "2023-04-24T15:53:11.500000+00:00"
    for time in (1_682_351_591_500, 1e300, float("nan")):
        with pytest.raises(ValueError, match=r"^t: .* found, seconds since 1970 expected$"):
            read(columns, {**row, "t": time})


@pytest.mark.parametrize("order", ["ranks", "scores"])
@pytest.mark.parametrize(
    ("judged", "message"), [([1], "2 responses but 1 ranks"), ([1, 2, 3], "2 responses but 3 ranks")]
)
def test_as_many_judgments_as_responses(order: str, judged: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        read({"prompt": "p", "responses": "r", order: "k"}, {"p": "q", "r": ["x", "y"], "k": judged})


@pytest.mark.parametrize(
    "columns",
    [
        {"prompt": "p"},
        {"prompt": "p", "chosen": "a"},
        {"prompt": "p", "responses": "r"},
        {"prompt": "p", "responses": "r", "ranks": "k", "scores": "s"},
        {"prompt": "p", "chosen": "a", "rejected": "b", "responses": "r", "ranks": "k"},
        {"prompt": "p", "chosen": "a", "rejected": "b", "scores": "s"},
    ],
)
def test_a_mapping_must_state_one_order(columns: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Columns(**columns)


def test_pairs_are_joined_only_where_the_labeler_is_known() -> None:
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    assert not Columns(**pair).PAIRS
    assert Columns(**pair, labeler="l").PAIRS
    assert not Columns(prompt="p", responses="r", ranks="k", labeler="l").PAIRS


def test_columns_on_the_command_line() -> None:
    assert parse_columns("prompt=q, chosen=a,rejected=b,labeler==gpt-4") == Columns(
        prompt="q", chosen="a", rejected="b", labeler="=gpt-4"
    )
    lists = Columns(prompt="q", responses=["a", "b"], ranks=["ra", "rb"])
    assert parse_columns("prompt=q,responses=a+b,ranks=ra+rb") == lists
    assert parse_columns('{"prompt": "q", "responses": ["a", "b"], "ranks": ["ra", "rb"]}') == lists
    with pytest.raises(InputError, match=r"unknown key 'promt' - did you mean 'prompt'\?"):
        parse_columns("promt=q,chosen=a,rejected=b")
    with pytest.raises(InputError, match=r"'prompt': FIELD=COLUMN expected"):
        parse_columns("prompt")
    with pytest.raises(InputError, match=r"--columns: not JSON"):
        parse_columns("{")


def test_every_mapping_of_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[4] / "docs/how-to/reward-model.md").read_text(encoding="utf-8")
    in_commands = re.findall(r"--columns '([^']+)'", page)
    in_table = re.findall(r"^\| [^|`]+ \| `(prompt=[^`]+)` \|$", page, re.MULTILINE)
    assert (len(in_commands), len(in_table)) == (5, 9)
    for text in (*in_commands, *in_table):
        assert parse_columns(text.replace("\\|", "|"))
