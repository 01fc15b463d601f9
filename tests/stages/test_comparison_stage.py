"""Stage `comparisons`: what people ranked, what was imported, and what the reference labeler adds."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from data.comparisons.collection import rankings, read_collection
from stages import comparisons
from stages.framework import layout

RANKING = {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "labeler": "ann"}


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the stage with changed settings; returns what it printed, and its exit code."""
    monkeypatch.setattr("sys.argv", ["comparisons"])
    layout.LABELED.mkdir()
    Path("export.csv").write_text("q,good,bad\np,a,b\np,b,c\nbroken,a,a\n")
    (layout.LABELED / "people.jsonl").write_text(json.dumps(RANKING) + "\n")

    def stage(expect: int = 0, **settings: Any) -> str:
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["comparisons"] |= settings
        Path("params.yaml").write_text(yaml.safe_dump(params))
        if expect:
            with pytest.raises(SystemExit) as ended:
                comparisons.main()
            assert ended.value.code == expect
        else:
            comparisons.main()
        shown = capsys.readouterr()
        return shown.out + shown.err

    return stage


IMPORT = {"source": "export.csv", "columns": {"prompt": "q", "chosen": "good", "rejected": "bad", "labeler": "=bob"}}


def test_everything_is_in_one_collection(run: Any) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    for name in params["pretraining"]["architectures"]:
        rows = [
            {
                "prompt": f"prompt {i}",
                "reference": "the reference",
                "responses": [{"text": text, "system": name} for text in ("a reference", "the reference", "x", "y z")],
            }
            for i in range(3)
        ]
        datasets.Dataset.from_list(rows).save_to_disk(str(layout.RESPONSES / name))
    shown = run(imports=[IMPORT], strict=False)
    assert "3 rankings are by the labeler 'reference' (chrF against the reference): no person judged them." in shown
    assert "export.csv:4: a response is there twice" in shown

    stored = list(rankings(read_collection(layout.COMPARISONS / "rankings")))
    assert [(r.labeler, r.origin, len(r.responses)) for r in stored] == [
        ("ann", "people.jsonl", 2), ("bob", "export.csv", 3), *[("reference", "pipeline responses", 4)] * 3,
    ]  # fmt: skip
    summary = json.loads((layout.COMPARISONS / layout.SUMMARY).read_text())
    assert (summary["rankings"], summary["by_reference_labeler"]) == (5, 3)
    assert (summary["import"]["kept"], summary["import"]["dropped"], summary["import"]["joined_pairs"]) == (2, 1, 2)
    report = json.loads((layout.COMPARISONS / "import_report.json").read_text())
    assert report["files"] == ["labeled/people.jsonl", "export.csv"]
    assert report["dropped"] == [
        {"file": "export.csv", "line": 4, "why": "a response is there twice: keep one of the two"}
    ]
    names = {p.name for p in layout.COMPARISONS.iterdir()}
    assert names == {"rankings", "import_report.json", "statistics.json", layout.SUMMARY}


def test_a_wrong_record_refuses_everything_unless_told_otherwise(run: Any) -> None:
    shown = run(expect=2, imports=[IMPORT], reference_labeler=False)
    assert "export.csv:4: a response is there twice" in shown
    assert not layout.COMPARISONS.exists()
    run(strict=False)
    assert len(read_collection(layout.COMPARISONS / "rankings")) == 2


def test_there_must_be_something_to_rank(run: Any) -> None:
    (layout.LABELED / "people.jsonl").unlink()
    assert "there is nothing to rank" in run(expect=2, reference_labeler=False)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": "export.csv", "format": "wtm"}, "did you mean 'wmt'?"),
        ({"source": "export.csv", "colums": {}}, "unknown key 'comparisons.imports.0.colums'"),
        ({"source": "none.csv"}, "none.csv: no such file"),
    ],
)
def test_a_wrong_import_is_named(run: Any, wrong: dict[str, Any], message: str) -> None:
    assert message in run(expect=2, imports=[wrong])
