"""Stage `comparisons`: what people ranked, what was imported, and what the reference labeler adds."""

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from data.comparisons.collection import rankings, read_collection
from stages import comparisons, reference_comparisons
from stages.framework import layout

RANKING = {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "labeler": "ann"}


NAMES = {"comparisons": "people", "reference_comparisons": "ours"}
OURS, PEOPLE = layout.COMPARISONS / "ours", layout.COMPARISONS / "people"


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the stage with changed settings; returns what it printed, and its exit code."""
    layout.LABELED.mkdir()
    Path("export.csv").write_text("q,good,bad\np,a,b\np,b,c\nbroken,a,a\n")
    (layout.LABELED / "people.jsonl").write_text(json.dumps(RANKING) + "\n")

    def stage(section: str, expect: int = 0, **settings: Any) -> str:
        params = yaml.safe_load(Path("params.yaml").read_text())
        params.setdefault(section, {}).setdefault(NAMES[section], {}).update(settings)
        Path("params.yaml").write_text(yaml.safe_dump(params))
        monkeypatch.setattr("sys.argv", [section, NAMES[section]])
        main = {"comparisons": comparisons, "reference_comparisons": reference_comparisons}[section].main
        if expect:
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == expect
        else:
            main()
        shown = capsys.readouterr()
        return shown.out + shown.err

    return stage


@pytest.fixture
def responses(project: Path) -> None:
    """Responses of both translators of the default run."""
    for name in ("luong", "transformer"):
        rows = [
            {
                "prompt": f"prompt {i}",
                "reference": "the reference",
                "responses": [{"text": text, "system": name} for text in ("a reference", "the reference", "x", "y z")],
            }
            for i in range(3)
        ]
        datasets.Dataset.from_list(rows).save_to_disk(str(layout.RESPONSES / name))


IMPORT = {"source": "export.csv", "columns": {"prompt": "q", "chosen": "good", "rejected": "bad", "labeler": "=bob"}}


def test_everything_is_in_one_collection(run: Any, responses: None) -> None:
    shown = run("reference_comparisons", imports=[IMPORT], strict=False)
    assert "3 rankings are by the labeler 'reference' (chrF against the reference): no person judged them." in shown
    assert "export.csv:4: a response is there twice" in shown

    stored = list(rankings(read_collection(OURS / "rankings")))
    assert [(r.labeler, r.origin, len(r.responses)) for r in stored] == [
        ("ann", "people.jsonl", 2), ("bob", "export.csv", 3), *[("reference", "pipeline responses", 4)] * 3,
    ]  # fmt: skip
    summary = json.loads((OURS / layout.SUMMARY).read_text())
    assert (summary["rankings"], summary["by_reference_labeler"]) == (5, 3)
    assert (summary["import"]["kept"], summary["import"]["dropped"], summary["import"]["joined_pairs"]) == (2, 1, 2)
    report = json.loads((OURS / "import_report.json").read_text())
    assert report["files"] == ["labeled/people.jsonl", "export.csv"]
    assert report["dropped"] == [
        {"file": "export.csv", "line": 4, "why": "a response is there twice: keep one of the two"}
    ]
    names = {p.name for p in OURS.iterdir()}
    assert names == {"rankings", "import_report.json", "statistics.json", layout.SUMMARY}


def test_a_collection_is_never_made_of_a_part_of_the_responses(run: Any, responses: None) -> None:
    shutil.rmtree(layout.RESPONSES / "transformer")
    shown = run("reference_comparisons", expect=2)
    assert (
        "artifacts/responses/transformer: no such folder, but responses.translators in params.yaml names transformer"
        in shown
    )
    assert "dvc repro responses@transformer" in shown
    assert not OURS.exists()


def test_a_wrong_record_refuses_everything_unless_told_otherwise(run: Any) -> None:
    shown = run("comparisons", expect=2, imports=[IMPORT])
    assert "export.csv:4: a response is there twice" in shown
    assert not PEOPLE.exists()
    run("comparisons", strict=False)
    assert len(read_collection(PEOPLE / "rankings")) == 2


def test_there_must_be_something_to_rank(run: Any) -> None:
    (layout.LABELED / "people.jsonl").unlink()
    assert "no rankings: this collection has no imports in params.yaml, and labeled/ holds no *.jsonl" in run(
        "comparisons", expect=2
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": "export.csv", "format": "wtm"}, "did you mean 'wmt'?"),
        ({"source": "export.csv", "colums": {}}, "unknown key 'comparisons.people.imports.0.colums'"),
        ({"source": "none.csv"}, "none.csv: no such file"),
    ],
)
def test_a_wrong_import_is_named(run: Any, wrong: dict[str, Any], message: str) -> None:
    assert message in run("comparisons", expect=2, imports=[wrong])
