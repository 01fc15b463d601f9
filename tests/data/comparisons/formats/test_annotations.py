"""Answers to any questions of Argilla and Label Studio, read by a mapping of columns."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.comparisons.formats import label_studio
from data.comparisons.importing.columns import parse_columns
from data.comparisons.importing.rankings import check_rankings
from data.comparisons.importing.reading import read
from data.comparisons.importing.records import Problem
from data.comparisons.importing.source import Source
from data.comparisons.ranking import Ranking

ANN, BEN = "00000000-0000-0000-0000-0000000000a1", "00000000-0000-0000-0000-0000000000a2"
FIELDS = {"instruction": "Name a tea.", "generation-0": "Assam.", "generation-1": "Coffee."}
RATED = "prompt=instruction,responses=generation-0+generation-1,scores=generation-0-rating+generation-1-rating"
LABELED = "prompt=instruction,responses=generation-0+generation-1,winner=better{generation-0=first,generation-1=second,tie=equal}"
TEXTS = {"prompt": "Name a tea.", "a": "Assam.", "b": "Coffee."}
CHOSEN = "prompt=prompt,responses=a+b,winner=better{a=Left,b=Right,tie=Both|Neither}"
STARS = "prompt=prompt,responses=a+b,scores=stars_a+stars_b"


def imported(tmp_path: Path, format: str, columns: str, *records: dict[str, Any]) -> list[Any]:
    """Labeler and ranks of each ranking, or what is wrong."""
    path = tmp_path / "export.json"
    path.write_text(json.dumps(records))
    mapping = parse_columns(columns).model_dump(exclude_none=True)
    results = [result for _, result in read(path, format, mapping)]
    return [(r.labeler, r.ranks) if isinstance(r, Ranking) else r.why for r in results]


def api(**by_user: dict[str, Any]) -> dict[str, Any]:
    """A record of the server's API; distilabel's questions have such names."""
    users = {"ann": ANN, "ben": BEN}
    responses = [
        {"id": f"e-{who}", "user_id": users[who], "status": "submitted", "updated_at": "2024-05-14T09:31:21",
         "values": {question: {"value": value} for question, value in answers.items()}}
        for who, answers in by_user.items()
    ]  # fmt: skip
    return {"id": "c1", "fields": FIELDS, "responses": responses}


def test_argilla_rating_questions_of_each_response(tmp_path: Path) -> None:
    record = api(
        ann={"generation-0-rating": 5, "generation-1-rating": 1, "generation-0-rationale": "It is a tea."},
        ben={"generation-0-rating": 3, "generation-1-rating": 3},
    )
    assert imported(tmp_path, "argilla", RATED, record) == [(ANN, (1, 2)), (BEN, (1, 1))]
    one_rated = api(ann={"generation-0-rating": 5})
    assert imported(tmp_path, "argilla", RATED, one_rated) == []  # nothing is compared


def test_argilla_label_questions(tmp_path: Path) -> None:
    record = api(ann={"better": "second"}, ben={"better": "equal", "why": "Both are drinks."})
    assert imported(tmp_path, "argilla", LABELED, record) == [(ANN, (2, 1)), (BEN, (1, 1))]
    wrong = api(ann={"better": "third"}, ben={"better": "first"})
    known = "'first' (generation-0), 'second' (generation-1), 'equal' (tie)"
    assert imported(tmp_path, "argilla", LABELED, wrong) == [
        (BEN, (1, 2)),
        f"responses.0: better: 'third' found, one of {known} expected",
    ]
    unanswered = api(ann={"why": "?"})
    assert imported(tmp_path, "argilla", LABELED, unanswered) == []


@pytest.mark.parametrize("shape", ["client 1, hub", "client 2, dict", "client 2, dataset"])
def test_argilla_answers_of_all_shapes_are_of_one_annotator(tmp_path: Path, shape: str) -> None:
    answers = {"generation-0-rating": {ANN: 2, BEN: 4}, "generation-1-rating": {ANN: 4, BEN: 1}}
    by_question = {
        question: [{"user_id": user, "value": value, "status": "submitted"} for user, value in given.items()]
        for question, given in answers.items()
    }
    record: dict[str, Any] = {
        "client 1, hub": {**FIELDS, **by_question},
        "client 2, dict": {"fields": FIELDS, "responses": by_question},
        "client 2, dataset": {
            "_server_id": "s", **FIELDS,
            **{f"{question}.responses": [*given.values()] for question, given in answers.items()},
            **{f"{question}.responses.users": [*given] for question, given in answers.items()},
        },
    }[shape]  # fmt: skip
    assert imported(tmp_path, "argilla", RATED, record) == [(ANN, (2, 1)), (BEN, (1, 2))]


def task(*results: dict[str, Any], data: dict[str, Any] | None = None) -> dict[str, Any]:
    annotation = {"id": 7, "completed_by": 3, "created_at": "2026-01-02T03:04:05Z", "result": list(results)}
    return {"id": 1, "data": data or TEXTS, "annotations": [annotation]}


def result(kind: str, name: str, value: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": "a", "type": kind, "value": value}


def test_label_studio_choices_name_the_winner(tmp_path: Path) -> None:
    tasks = [task(result("choices", "better", {"choices": [side]})) for side in ("Left", "Right", "Both", "Neither")]
    expected = [("3", ranks) for ranks in ((1, 2), (2, 1), (1, 1), (1, 1))]
    assert imported(tmp_path, "label_studio", CHOSEN, *tasks) == expected
    (refused,) = imported(
        tmp_path, "label_studio", CHOSEN, task(result("choices", "better", {"choices": ["Left", "Both"]}))
    )
    assert "annotations.0: better: \"['Left', 'Both']\" found, one of 'Left' (a)" in refused


def test_a_column_of_the_mapping_goes_before_what_the_annotation_says(tmp_path: Path) -> None:
    rated = task(data={**TEXTS, "who": "Ann", "stars": {"a": 1, "b": 2}})
    rated["annotations"][0]["result"] = [result("choices", "other", {"choices": ["x"]})]
    columns = "prompt=prompt,responses=a+b,scores=stars.a+stars.b,labeler=who"
    assert imported(tmp_path, "label_studio", columns, rated) == [("Ann", (2, 1))]


def test_label_studio_ratings_are_scores(tmp_path: Path) -> None:
    stars = [result("rating", f"stars_{side}", {"rating": rating}) for side, rating in (("a", 2), ("b", 5))]
    assert imported(tmp_path, "label_studio", STARS, task(*stars)) == [("3", (2, 1))]
    assert imported(tmp_path, "label_studio", STARS, task(stars[0])) == []
    (refused,) = imported(tmp_path, "label_studio", STARS, task(stars[0], stars[0]))
    assert (
        refused == "annotations.0.result.1.from_name: 'stars_a' is there twice in one annotation, one answer expected"
    )


def test_label_studio_says_what_could_be_read_with_columns(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps([task(result("choices", "better", {"choices": ["Left"]}))]))
    (dropped,) = check_rankings([Source(source=str(tmp_path / "r.json"), format="label_studio")]).dropped
    assert dropped.why == (
        "annotations.0.result: one ranking, preference or tie expected, found none "
        "(choices 'better': name what they say with --columns)"
    )


def test_a_ranker_and_a_pairwise_of_one_annotation_are_both_kept() -> None:
    items = [{"id": "A", "body": "one"}, {"id": "B", "body": "two"}, {"id": "C", "body": "three"}]
    data = {"prompt": "p", "items": items, "left": "l", "right": "r"}
    ranker = result("ranker", "rank", {"ranker": {"rank_1": ["C"], "rank_2": ["A", "B"]}})
    for chosen, ranks in (
        (result("pairwise", "pw", {"selected": "right"}), [2, 1]),
        (result("choices", "tie", {"choices": ["Neither is better"]}), [1, 1]),
    ):
        found = [(r["responses"], r["ranks"]) for r in label_studio.rankings(task(ranker, chosen, data=data))]
        assert found == [(["one", "two", "three"], [2, 2, 1]), (["l", "r"], ranks)]
    with pytest.raises(ValueError, match=r"^data: left and right expected"):
        list(
            label_studio.rankings(
                task(ranker, result("pairwise", "pw", {"selected": "left"}), data={"prompt": "p", "items": items})
            )
        )


def test_a_chat_is_a_prompt_in_label_studio_too(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Name a tea."}]
    pairwise = task(result("pairwise", "pw", {"selected": "left"}), data={"prompt": chat, "left": "l", "right": "r"})
    chosen = task(result("choices", "better", {"choices": ["Left"]}), data={**TEXTS, "prompt": chat})
    for format, columns, record in (("label_studio", None, pairwise), ("label_studio", CHOSEN, chosen)):
        (tmp_path / "r.json").write_text(json.dumps([record]))
        mapping = parse_columns(columns).model_dump(exclude_none=True) if columns else None
        ((_, found),) = read(tmp_path / "r.json", format, mapping)
        assert not isinstance(found, Problem), found
        assert [(m.role, m.content) for m in found.messages or ()] == [("user", "Name a tea.")]
