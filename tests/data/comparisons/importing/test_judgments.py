"""A judgment in one column: a winner, a signed strength, a rating in each row; by a mapping of columns."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.config import validated
from core.errors import InputError
from data.comparisons.importing.columns import Columns, parse_columns
from data.comparisons.importing.judgments import ranks_of_scores
from data.comparisons.importing.rankings import check_rankings, import_rankings
from data.comparisons.importing.reading import read
from data.comparisons.importing.source import Source
from data.comparisons.ranking import Ranking

PAIR = "prompt=p,responses=a+b"
WINNER = f"{PAIR},winner=w{{a=model_a,b=model_b,tie=tie|tie (bothbad),skip=unsure}}"


def ranked(columns: str | dict[str, Any], **row: Any) -> list[tuple[list[str], list[int | None]]]:
    mapping = parse_columns(columns) if isinstance(columns, str) else Columns(**columns)
    return [
        (values["responses"], values["ranks"]) for values in mapping.rankings({"p": "q", "a": "x", "b": "y", **row})
    ]


@pytest.mark.parametrize(
    ("value", "ranks"),
    [
        ("model_a", [1, 2]),
        (" model_b ", [2, 1]),
        ("tie", [1, 1]),
        ("tie (bothbad)", [1, 1]),
        ("unsure", None),
        (None, None),
        ("", None),
    ],
)
def test_a_column_names_the_winner(value: Any, ranks: list[int] | None) -> None:
    assert ranked(WINNER, w=value) == ([(["x", "y"], ranks)] if ranks else [])


@pytest.mark.parametrize("value", [0, "0", 0.0, False, "False"])
def test_numbers_and_truth_values_are_the_same_in_all_kinds_of_files(value: Any) -> None:
    meanings = "false" if str(value) == "False" else "0"
    assert ranked(f"{PAIR},winner=w{{a={meanings},b=1|true}}", w=value) == [(["x", "y"], [1, 2])]


def test_without_values_the_winner_is_a_column_s_name_or_tie() -> None:
    assert [ranked(f"{PAIR},winner=w", w=value) for value in ("a", "b", "tie")] == [
        [(["x", "y"], ranks)] for ranks in ([1, 2], [2, 1], [1, 1])
    ]
    with pytest.raises(ValueError, match=r"^w: 'model_a' found, one of 'a', 'b', 'tie' expected$"):
        ranked(f"{PAIR},winner=w", w="model_a")


def test_the_same_in_params_yaml() -> None:
    as_text = Columns(
        prompt="p", responses=["a", "b"], winner="w{a=model_a,b=model_b,tie=tie|tie (bothbad),skip=unsure}"
    )  # type: ignore[arg-type]
    values = {"a": ["model_a"], "b": ["model_b"], "tie": ["tie", "tie (bothbad)"], "skip": ["unsure"]}
    as_mapping = Columns(prompt="p", responses=["a", "b"], winner={"column": "w", "values": values})  # type: ignore[arg-type]
    assert parse_columns(WINNER) == as_text == as_mapping
    assert parse_columns(json.dumps(as_mapping.model_dump(mode="json", exclude_none=True))) == as_mapping


def test_an_unknown_value_is_named_with_file_line_and_the_known_values(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("p,a,b,w\nq,x,y,model_a\nq,x,y,draw\nq,x,y,\n")
    source = Source(source=str(tmp_path / "r.csv"), columns=parse_columns(WINNER))
    report = check_rankings([source])
    assert [str(dropped) for dropped in report.dropped] == [
        f"{tmp_path}/r.csv:3: w: 'draw' found, one of 'model_a' (a), 'model_b' (b), 'tie', 'tie (bothbad)' (tie), 'unsure' (skip) expected"
    ]
    assert (report.kept, report.without_ranking) == (1, 1)
    with pytest.raises(InputError, match=r"r\.csv:3: w: 'draw' found.*\n.*Nothing was imported"):
        import_rankings([source], tmp_path / "c", strict=True)


def test_the_best_of_several_is_compared_with_each_other_one() -> None:
    columns = {
        "prompt": "p",
        "responses": "r",
        "systems": "s",
        "winner": {"column": "w", "values": {"1": 0, "2": 1, "3": 2, "tie": -1}},
    }
    row = {"p": "q", "r": ["x", "y", "z"], "s": ["m1", "m2", "m3"], "w": 1}
    judged = [(v["responses"], v["ranks"], v["systems"]) for v in Columns(**columns).rankings(row)]
    assert judged == [(["x", "y"], [2, 1], [["m1"], ["m2"]]), (["y", "z"], [1, 2], [["m2"], ["m3"]])]
    assert ranked(columns, r=["x", "y", "z"], s=["m"] * 3, w=-1) == [(["x", "y", "z"], [1, 1, 1])]
    with pytest.raises(ValueError, match=r"^3 responses but systems for 2$"):
        ranked(columns, r=["x", "y", "z"], s=["m"] * 2, w=1)
    with pytest.raises(ValueError, match=r"^w: 2 found, and there are 2 responses$"):
        ranked(columns, r=["x", "y"], s=["m"] * 2, w=2)


@pytest.mark.parametrize(
    ("strength", "ranks"),
    [(-3, [1, 4]), ("-1", [1, 2]), (0, [1, 1]), (0.5, [2, 1]), (2.0, [3, 1]), (None, None), ("", None)],
)
def test_a_signed_strength_is_the_distance_of_the_ranks(strength: Any, ranks: list[int] | None) -> None:
    assert ranked(f"{PAIR},strength=s", s=strength) == ([(["x", "y"], ranks)] if ranks else [])


def test_a_rating_of_each_response_in_columns_or_in_rows(tmp_path: Path) -> None:
    assert ranked(f"{PAIR},scores=ra+rb", ra="3.5", rb="4") == [(["x", "y"], [2, 1])]
    rows = [
        "q,one,3,ann",
        "q,two,5,ann",
        "q,three,,ann",
        "q,one,5,ben",
        "q,two,1,ben",
        "alone,one,5,ben",
        "r,one,2,ben",
        "r,two,2,ben",
    ]
    (tmp_path / "r.csv").write_text("\n".join(["p,answer,stars,who", *rows]) + "\n")
    columns = parse_columns("prompt=p,response=answer,scores=stars,labeler=who")
    report = import_rankings([Source(source=str(tmp_path / "r.csv"), columns=columns)], tmp_path / "c")
    assert (report.rows, report.kept, [dropped.line for dropped in report.dropped]) == (8, 3, [7])
    assert "sort the table" in report.dropped[0].why
    mapping = columns.model_dump(exclude_none=True)
    imported_rankings = [r for _, r in read(tmp_path / "r.csv", columns=mapping) if isinstance(r, Ranking)]
    assert [(r.prompt, r.labeler, r.responses, r.ranks) for r in imported_rankings] == [
        ("q", "ann", ("one", "two", "three"), (2, 1, None)),
        ("q", "ben", ("one", "two"), (1, 2)),
        ("r", "ben", ("one", "two"), (1, 1)),
    ]


def test_a_wrong_row_between_the_rows_of_a_prompt_is_named_alone(tmp_path: Path) -> None:
    good = [json.dumps({"p": "q", "r": text, "s": n}) for n, text in enumerate("abcd")]
    (tmp_path / "r.jsonl").write_text("\n".join([*good[:2], "{", '{"r": "x"}', *good[2:]]) + "\n")
    columns = {"prompt": "p", "response": "r", "scores": "s"}
    results = list(read(tmp_path / "r.jsonl", columns=columns))
    assert [line for line, result in results if isinstance(result, Ranking)] == [1, 5]
    assert [(line, result.why.partition(" (")[0]) for line, result in results if not isinstance(result, Ranking)] == [
        (3, "not JSON"),
        (4, "no column 'p'; there are: r"),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (f"{PAIR},winner=w{{a=1,c=2}}", r"'c' is no response's column - known: a, b, 1, 2, tie, skip"),
        (f"{PAIR},winner=w{{a=1,tie=0}}", r"which value names the response 'b'\?"),
        (f"{PAIR},winner=w{{a=1,b=1}}", r"the value '1' means two things"),
        (f"{PAIR},winner=w{{a=1,b=2", r"RESPONSE=VALUE"),
        (f"{PAIR},winner=w{{a,b}}", r"RESPONSE=VALUE"),
        ("prompt=p,responses=r,winner=w", r"which value names the response '1'\?"),
        (f"{PAIR}+c,strength=s", r"'strength' is of two responses"),
        (f"{PAIR},strength=s,winner=w", r"need one of"),
        ("prompt=p,response=a,winner=w", r"'response', of a row, needs one column of 'ranks' or 'scores'"),
        ("prompt=p,response=a,responses=b,scores=s", r"'responses', or 'response', are needed"),
        ("prompt=p,chosen=a,rejected=b,strength=s", r"'strength' goes with 'responses'"),
    ],
)
def test_a_mapping_that_says_nothing_or_two_things_is_refused(columns: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_columns(columns)


def test_pairs_are_joined_unless_one_name_is_for_many_people() -> None:
    assert parse_columns(f"{WINNER},labeler=who").PAIRS
    assert not parse_columns(WINNER).PAIRS
    assert not parse_columns(f"{WINNER},labeler==crowd,join_pairs=false").PAIRS


def test_columns_go_with_annotation_tools_alone() -> None:
    columns = {"prompt": "p", "responses": ["a", "b"], "strength": "s"}
    for name in ("argilla", "label_studio"):
        assert Source(source="r.json", format=name, columns=columns).columns  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"either a format or columns \(both with argilla and label_studio alone\)"):
        validated(Source, {"source": "r.json", "format": "shp", "columns": columns}, "import")


def test_equal_scores_tie() -> None:
    assert ranks_of_scores([0.1, 0.3, "0.3", -1, None, ""]) == [2, 1, 1, 3, None, None]
