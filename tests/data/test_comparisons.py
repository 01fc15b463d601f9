"""Rankings: validation, files, the reference labeler, splits."""

import json
from pathlib import Path

import pytest

from data.comparisons.collection import rankings, read_collection, statistics, write_collection
from data.comparisons.jsonl import read_jsonl, write_jsonl
from data.comparisons.ranking import Ranking, ranking
from data.comparisons.reference_labeler import rank_by_reference, sentence_chrf
from data.comparisons.splitting import split_by_prompt
from data.errors import InputError

GOOD = {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 2], "labeler": "ann", "origin": "test"}

BAD = {
    "K = 1": ({"responses": ["a"], "ranks": [1]}, r"responses: K = 1, a ranking needs at least 2 responses"),
    "unlike lengths": ({"ranks": [1, 2]}, r"3 responses but 2 ranks"),
    "fractional rank": ({"ranks": [1, 2, 2.5]}, r"ranks\.2: .*integer.*2\.5"),
    "NaN rank": ({"ranks": [1, 2, float("nan")]}, r"ranks\.2: .*nan"),
    "rank below 1": ({"ranks": [0, 1, 2]}, r"ranks\.0: .*greater than or equal to 1.*'0'"),
    "the same response twice": ({"responses": ["a", "b", "a"]}, r"a response stands there twice"),
    "empty prompt": ({"prompt": "  "}, r"prompt: .*at least 1 character"),
    "unknown field": ({"rank": [1]}, r"rank: Extra inputs"),
    "missing labeler": ({"labeler": None}, r"labeler: "),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_ranking_says_what_is_wrong(case: str) -> None:
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        ranking({**GOOD, **change})


def test_a_file_with_wrong_lines_names_each_and_imports_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    lines = [
        json.dumps(GOOD),
        "{not json",
        json.dumps({**GOOD, "responses": ["a"], "ranks": [1]}),
        json.dumps({**GOOD, "ranks": [1, 2, float("nan")]}),
        "[1]",
    ]
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\n")
    with pytest.raises(InputError) as error:
        write_collection(read_jsonl(path), tmp_path / "out")
    message = str(error.value)
    for number, what in (
        (2, "not JSON"),
        (3, "K = 1"),
        (4, "NaN is not a number"),
        (5, "a JSON object expected"),
        (6, "not UTF-8"),
    ):
        assert any(line.startswith(f"{path}:{number}: ") and what in line for line in message.splitlines()), message
    assert "Nothing was imported" in message
    assert not list(tmp_path.glob("out*"))
    assert not list(tmp_path.glob(".*partial*"))


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match=r"e\.jsonl: the file is empty"):
        list(read_jsonl(tmp_path / "e.jsonl"))


def test_storing_exporting_and_importing_loses_nothing(tmp_path: Path) -> None:
    records = [
        Ranking(**GOOD, reference="r", systems=(("s1",), ("s2", "s3"), ())),
        Ranking(**{**GOOD, "prompt": "<b>ü</b>", "ranks": (3, 1, 2)}),
    ]
    assert write_collection(records, tmp_path / "c") == 2
    rows = read_collection(tmp_path / "c")
    assert list(rankings(rows)) == records
    write_jsonl(rankings(rows), tmp_path / "out.jsonl")
    assert list(read_jsonl(tmp_path / "out.jsonl")) == records
    found = statistics(rows)
    assert (found["strict_comparisons"], found["tied_comparisons"], found["by_reference_labeler"]) == (5, 1, 0)
    with pytest.raises(InputError, match="no comparison collection"):
        read_collection(tmp_path / "none")


def test_the_reference_labeler_ranks_by_chrf_and_signs_with_its_name() -> None:
    reference = "And Jesus himself was weeping."
    responses = ["Jesus slept.", reference, "And Jesus himself was weeping", "Nothing of the kind"]
    made = rank_by_reference("Jesus wept.", responses, reference, "test", [[r] for r in responses], tie_margin=5)
    scores = [sentence_chrf(r, reference) for r in responses]
    assert made.labeler == "reference"
    assert scores[1] - scores[2] < 5
    assert made.ranks == (3, 1, 1, 4)
    assert rank_by_reference("p", responses, reference, "test", [[]] * 4, tie_margin=0).ranks == (3, 1, 2, 4)


def test_all_rankings_of_a_prompt_are_in_one_part(tmp_path: Path) -> None:
    records = [
        Ranking(**{**GOOD, "prompt": f"{style}prompt {i}{end}"})
        for i in range(200)
        for style, end in (("", ""), ("The ", "!"), ("the  ", " ?"))
    ]
    write_collection(records, tmp_path / "c")
    parts = split_by_prompt(read_collection(tmp_path / "c"), 0.2, 0.3)
    assert sum(map(len, parts.values())) == 600
    assert 0.2 < len(parts["test"]) / 600 < 0.4
    for i in range(200):
        homes = {
            name
            for name, rows in parts.items()
            for p in rows["prompt"]
            if p in (f"The prompt {i}!", f"the  prompt {i} ?")
        }
        assert len(homes) == 1
