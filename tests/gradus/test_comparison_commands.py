"""`gradus comparisons` as it is typed."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from data.comparisons import formats
from gradus.comparisons import app

RANKING = {"prompt": "<b>p</b>", "responses": ["a", "b", "c"], "ranks": [1, None, 1], "labeler": "ann"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(command: str, expect: int = 0) -> Result:
    result = CliRunner().invoke(app, command.split(), catch_exceptions=False)
    assert result.exit_code == expect, result.output
    return result


def lines(name: str, *records: Any) -> None:
    Path(name).write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in records))


def test_there_and_back() -> None:
    lines("r.jsonl", RANKING, {**RANKING, "labeler": "bob", "ranks": [2, 1, 3], "weight": 2, "origin": "o"})
    assert "r.jsonl: 2 rankings, all valid" in run("validate r.jsonl").output
    assert "c: 2 rankings added" in run("import r.jsonl --output c").output
    assert "out.jsonl: 2 rankings" in run("export c --output out.jsonl").output
    assert "0 rankings added (rows 2  already there 2)" in run("import out.jsonl --output c").output
    run("import out.jsonl --output again")
    assert run("stats c").output == run("stats again").output
    statistics = json.loads(run("stats c").stdout)
    assert (statistics["rankings"], statistics["not_ranked_responses"], statistics["origins"]) == (
        2,
        1,
        {"r.jsonl": 1, "o": 1},
    )


def test_pairs_for_other_trainers() -> None:
    lines("r.jsonl", {**RANKING, "ranks": [1, None, 3]})
    run("import r.jsonl --output c")
    assert "pairs.jsonl: 1 pairs" in run("export c --output pairs.jsonl --format pairs").output
    assert json.loads(Path("pairs.jsonl").read_text()) == {
        "prompt": "<b>p</b>", "chosen": "a", "rejected": "c", "labeler": "ann", "weight": 1.0, "margin": 2,
    }  # fmt: skip
    # What is exported is read again through a mapping of columns.
    columns = "prompt=prompt,chosen=chosen,rejected=rejected,labeler=labeler,weight=weight"
    assert "1 rankings added" in run(f"import pairs.jsonl --output d --columns {columns}").output


def test_wrong_records_are_named_and_the_others_imported() -> None:
    lines("r.jsonl", RANKING, "{\n", {**RANKING, "ranks": [1]})
    wrong = run("validate r.jsonl", expect=2)
    assert "r.jsonl:2: not JSON" in wrong.stderr
    assert "r.jsonl:3: 3 responses but 1 ranks" in wrong.stderr
    assert "Nothing was imported" in run("import r.jsonl --output c --strict", expect=2).stderr
    assert not Path("c").exists()
    result = run("import r.jsonl --output c --report reports/r.json")
    assert "r.jsonl:2: not JSON" in result.stderr
    assert "1 rankings added (rows 3  kept 1  dropped 2)" in result.stdout
    report = json.loads(Path("reports/r.json").read_text())
    assert [(d["file"], d["line"]) for d in report["dropped"]] == [("r.jsonl", 2), ("r.jsonl", 3)]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("import none.jsonl --output c", "none.jsonl: no such file"),
        ("import r.jsonl --output c --format label_studoi", "did you mean 'label_studio'?"),
        ("import r.jsonl --output c --columns promt=p", "did you mean 'prompt'?"),
        ("import r.jsonl --output c --columns prompt=p", "'chosen' and 'rejected', or 'responses'"),
        ("import r.jsonl --output c --format wmt --columns chosen=a,rejected=b", "either a format or columns"),
        ("stats none", "none: no comparison collection"),
        ("export none --output out.jsonl", "none: no comparison collection"),
    ],
)
def test_errors_teach(command: str, message: str) -> None:
    lines("r.jsonl", RANKING)
    result = run(command, expect=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("c").exists()


def test_help_lists_every_format_with_what_it_is() -> None:
    for command in ("import", "validate"):
        shown = " ".join(run(f"{command} --help").output.split())
        for name, what in formats.described().items():
            assert what, name
            assert f"{name}: {what[:20]}" in shown
