"""Label Studio's export: what a real server wrote (`RECORD=1 make test-labeling`), other documented shapes, broken annotations."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from core.errors import InputError
from data.comparisons.collection import rankings as collection_rankings
from data.comparisons.collection import read_collection
from data.comparisons.formats.label_studio import rankings
from data.comparisons.importing.rankings import check_rankings, import_rankings
from data.comparisons.importing.reading import read
from data.comparisons.importing.source import Source
from data.comparisons.ranking import Ranking, ranking
from gradus.comparisons import app

FIXTURES = Path(__file__).parent / "fixtures"
RANKED = FIXTURES / "label_studio_export.json"
PAIRS = FIXTURES / "label_studio_pairwise_export.json"

ITEMS = [{"id": 1, "title": "one", "body": "first"}, {"id": 2, "title": "second"}, {"id": 3, "html": "<i>third</i>"}]


def ranker(value: Any) -> dict[str, Any]:
    return {"from_name": "rank", "to_name": "answers", "type": "ranker", "value": {"ranker": value}}


def side(selected: str) -> dict[str, Any]:
    return {"from_name": "pw", "to_name": "pw", "type": "pairwise", "value": {"selected": selected}}


def choice(control: str) -> dict[str, Any]:
    return {"from_name": control, "to_name": "prompt", "type": "choices", "value": {"choices": ["yes"]}}


def task(*results: dict[str, Any], data: dict[str, Any] | None = None, **annotation: Any) -> dict[str, Any]:
    one = {
        "id": 7,
        "completed_by": 3,
        "was_cancelled": False,
        "created_at": "2026-01-02T03:04:05.678901Z",
        "result": list(results),
    }
    return {"id": 1, "data": data or {"prompt": "p", "items": ITEMS}, "annotations": [{**one, **annotation}]}


def pair(*results: dict[str, Any], data: dict[str, Any] | None = None) -> dict[str, Any]:
    return task(*results, data=data or {"prompt": "p", "left": "l", "right": "r"})


def imported(path: Path) -> dict[str | None, Ranking]:
    rankings = [ranking for _, ranking in read(path, format="label_studio")]
    assert all(isinstance(one, Ranking) for one in rankings)
    return {one.id: one for one in rankings if isinstance(one, Ranking)}


def test_a_servers_export_has_ranks_ties_labelers_and_systems() -> None:
    imported_rankings = imported(RANKED)
    assert list(imported_rankings) == ["1", "2", "3", "4"]  # two more were skipped, one was submitted untouched
    tied = dict(
        zip(
            imported_rankings["1"].responses,
            zip(imported_rankings["1"].ranks, imported_rankings["1"].systems or (), strict=True),
            strict=True,
        )
    )
    assert tied == {
        "Grüß Gott 😀": (1, ("lstm",)),
        "<script>alert(1)</script>Guten Tag": (1, ("transformer", "luong")),
        "Tag": (3, ()),
        "<b>Hallo</b> &amp; Servus": (None, ("luong",)),
        "line one\nline two": (None, ("transformer",)),
    }
    assert imported_rankings["1"].prompt == 'Translate: "Good day,\n<b>$name</b> & {{others}}"'
    assert (imported_rankings["1"].reference, imported_rankings["1"].labeler, imported_rankings["2"].labeler) == (
        "Guten Tag",
        "1",
        "2",
    )
    assert sorted(r for r in imported_rankings["2"].ranks if r) == [1, 2, 3, 4, 5]
    assert [m.content for m in imported_rankings["3"].messages or ()] == ["Hello", "Hi", "Bye"]
    assert sorted(r for r in imported_rankings["3"].ranks if r) == [1, 2, 2, 2]
    assert {
        text: rank
        for text, rank in zip(imported_rankings["4"].responses, imported_rankings["4"].ranks, strict=True)
        if rank in (1, 9)
    } == {
        "response 8": 1,
        "response 0": 9,
    }
    assert imported_rankings["1"].time
    assert imported_rankings["1"].time.endswith("Z")


def test_pairs_of_a_servers_export_are_joined() -> None:
    assert all(len(one.responses) == 2 for one in imported(PAIRS).values())
    report = check_rankings([Source(source=str(PAIRS), format="label_studio")])
    assert (report.dropped, report.contradictions) == ([], [])
    assert (report.rows, report.kept) == (
        6,
        2,
    )  # six pairs of one labeler are one ranking, the other labeler's pair stays


def test_a_ranker_without_buckets_has_the_best_first() -> None:
    for value in ({"rank": ["3", "1", "2"]}, ["3", "1", "2"]):
        (found,) = rankings(task(ranker(value)))
        assert ranking({**found, "origin": "x"}).responses == ("first", "second", "<i>third</i>")
        assert found["ranks"] == [2, 3, 1]
        assert (found["labeler"], found["id"], found["systems"]) == ("3", "7", None)


def test_ties_and_not_ranked_items_of_buckets() -> None:
    (found,) = rankings(task(ranker({"_": ["3"], "rank_2": ["1", "2"]})))
    assert found["ranks"] == [2, 2, None]
    (found,) = rankings(task(ranker({"rank_2": ["2"], "rank_1": ["1"]})))  # "_" not kept
    assert found["ranks"] == [1, 2, None]


def scored(*buckets: str) -> dict[str, Any]:
    """A task whose items are each in a bucket, the first in the first."""
    items = [{"id": number, "body": f"item {number}"} for number in range(len(buckets))]
    filled: dict[str, list[int]] = {}
    for number, bucket in enumerate(buckets):
        filled.setdefault(bucket, []).append(number)
    return task(ranker(filled), data={"prompt": "p", "items": items})


@pytest.mark.parametrize(
    ("buckets", "ranks"),
    [
        (("score_1", "score_5", "score_3", "score_5"), [3, 1, 2, 1]),
        (("5", "_", "10", "9"), [3, None, 1, 2]),
        (("Score 0", "Score -1", "Score 1"), [2, 3, 1]),
        (("score_4.5", "score_4", "score_-0.5"), [1, 2, 3]),
        (("score_09", "score_10"), [2, 1]),
    ],
)
def test_with_higher_is_better_the_highest_score_is_rank_1(buckets: tuple[str, ...], ranks: list[int | None]) -> None:
    (values,) = rankings(scored(*buckets), higher_is_better=True)
    assert values["ranks"] == ranks


def test_an_empty_bucket_of_a_score_leaves_a_gap_between_the_ranks() -> None:
    buckets = {"score_1": ["1"], "score_2": [], "score_3": ["2"]}
    (values,) = rankings(task(ranker(buckets)), higher_is_better=True)
    assert values["ranks"] == [3, 1, None]


@pytest.mark.parametrize(
    ("buckets", "shown"),
    [
        (("score_1", "score_5"), "'score_1', 'score_5'"),
        (("rank_1", "score_2"), "'score_2'"),
        (("rank_1", "2"), "'2'"),
        (("1", "2"), "'1', '2'"),
        (("rank_0", "rank_1"), "'rank_0'"),
        (("rank_-1", "rank_1.5", "Rank_2", "rank 3", "my_rank_4"), "'rank_-1', 'rank_1.5', 'Rank_2', 'rank 3', 'my_rank_4'"),
    ],
)  # fmt: skip
def test_a_bucket_that_is_no_rank_is_refused_with_what_to_do(buckets: tuple[str, ...], shown: str) -> None:
    with pytest.raises(ValueError) as error:
        list(rankings(scored(*buckets)))
    assert str(error.value) == (
        f"annotations.0.result.0.value.ranker: buckets {shown} found, rank_1 (the best), rank_2, ... expected: rename them in the "
        "export; or, where they end in scores, the highest best, import with --higher-is-better (in params.yaml: "
        "higher_is_better: true)"
    )


@pytest.mark.parametrize(
    "buckets",
    [
        ("score_1", "good"),
        ("score_1", "rating_2"),
        ("rank_1", "score_2"),
        ("rank_1", "rank_2"),
        ("score-1", "score-2"),  # minus 1, or 1 after a hyphen
        ("1-2", "3-4"),
        ("score_1,5", "score_2,5"),
        ("v1.2.3", "v1.2.4"),
        ("score_1234567890", "score_2"),
    ],
)
def test_with_higher_is_better_names_that_are_no_scores_are_refused(buckets: tuple[str, ...]) -> None:
    shown = ", ".join(map(repr, buckets))
    with pytest.raises(
        ValueError, match=rf"^annotations\.0\.result\.0\.value\.ranker: buckets {shown} found, score_1, .*: rename"
    ):
        list(rankings(scored(*buckets), higher_is_better=True))


def test_an_empty_bucket_of_another_name_refuses_the_annotation_as_a_full_one_does() -> None:
    with pytest.raises(ValueError, match="buckets 'unsure' found"):
        list(rankings(task(ranker({"rank_1": ["1"], "rank_2": ["2"], "unsure": []}))))


def test_two_buckets_of_one_number_are_refused() -> None:
    (values,) = rankings(scored("rank_01", "rank_10"))
    assert values["ranks"] == [1, 10]
    for buckets, higher_is_better in ((("rank_1", "rank_01"), False), (("score_1", "score_1.0"), True)):
        shown = ", ".join(map(repr, buckets))
        with pytest.raises(ValueError, match=f"ranker: buckets {shown} found, two of them with the same number"):
            list(rankings(scored(*buckets), higher_is_better))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (task(ranker({"rank": ["1", "2"]})), r"result\.0\.value\.ranker: no buckets found, the first item is the best"),
        (pair(side("left")), r"annotations\.0\.result: no type 'ranker' found"),
    ],
)
def test_higher_is_better_is_refused_where_there_are_no_buckets(record: dict[str, Any], message: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{message}.*leave --higher-is-better \(in params.yaml: higher_is_better\) out"
    ):
        list(rankings(record, higher_is_better=True))


def test_a_source_says_that_higher_is_better(tmp_path: Path) -> None:
    export = tmp_path / "export.json"
    export.write_text(json.dumps([scored("score_1", "score_5")]))
    options: dict[str, Any] = {"format": "label_studio", "higher_is_better": True}
    import_rankings([Source(source=str(export), **options)], tmp_path / "c")
    (stored,) = collection_rankings(read_collection(tmp_path / "c"))
    ((_, read_one),) = read(export, **options)
    assert stored == read_one
    assert stored.ranks == (2, 1)
    with pytest.raises(InputError, match=r"export\.json:1: .*buckets 'score_1', 'score_5' found"):
        import_rankings([Source(source=str(export), format="label_studio")], tmp_path / "d")


@pytest.mark.parametrize("option", ["", "--format argilla", "--columns prompt=p,chosen=a,rejected=b"])
def test_higher_is_better_is_refused_where_it_says_nothing(tmp_path: Path, option: str) -> None:
    for command in (["import", "--output", str(tmp_path / "c")], ["validate"]):
        typed = [*command, "export.json", *option.split(), "--higher-is-better"]
        result = CliRunner().invoke(app, typed)
        assert result.exit_code == 2
        assert (
            "higher_is_better (--higher-is-better) is for the format label_studio alone, found beside" in result.stderr
        )
        assert not (tmp_path / "c").exists()


def test_higher_is_better_on_the_command_line(tmp_path: Path) -> None:
    export = tmp_path / "export.json"
    export.write_text(json.dumps([scored("score_1", "score_5")]))
    typed = [str(export), "--format", "label_studio"]
    refused = CliRunner().invoke(app, ["validate", *typed])
    assert refused.exit_code == 2
    assert "import with --higher-is-better" in refused.stderr
    assert "1 rankings, all valid" in CliRunner().invoke(app, ["validate", *typed, "--higher-is-better"]).stdout
    CliRunner().invoke(app, ["import", *typed, "--higher-is-better", "--output", str(tmp_path / "c")])
    (stored,) = collection_rankings(read_collection(tmp_path / "c"))
    assert stored.ranks == (2, 1)


@pytest.mark.parametrize(
    ("result", "ranks"), [(side("left"), [1, 2]), (side("right"), [2, 1]), (side("none"), [1, 1]), (choice("tie"), [1, 1])]
)  # fmt: skip
def test_a_preference_is_a_pair_and_none_a_tie(result: dict[str, Any], ranks: list[int]) -> None:
    (found,) = rankings(pair(choice("other question"), result))
    assert (found["responses"], found["ranks"]) == (["l", "r"], ranks)
    (found,) = rankings(pair(result, data={"text": "q", "answer1": "x", "answer2": "y"}))
    assert (found["prompt"], found["responses"]) == ("q", ["x", "y"])


def test_labelers_are_ids_or_addresses() -> None:
    for given, name in (
        (12, "12"),
        ("ann", "ann"),
        ({"id": 4, "email": "ann@example.org"}, "ann@example.org"),
        ({"id": 4}, "4"),
    ):
        (found,) = rankings(task(ranker({"rank": ["1", "2", "3"]}), completed_by=given))
        assert found["labeler"] == name


def test_responses_of_the_same_text_are_one_of_both_systems() -> None:
    items = [{"id": "A", "body": "x"}, {"id": "B", "body": "x "}, {"id": "C", "body": "y"}]
    same = task(ranker({"rank_1": ["A", "B"], "rank_2": ["C"]}), data={"prompt": "p", "items": items})
    (found,) = rankings({**same, "meta": {"systems": [["s"], ["t"], ["u"]]}})
    assert (found["responses"], found["systems"]) == (["x", "y"], [("s", "t"), ("u",)])


def test_skipped_and_open_tasks_have_no_ranking() -> None:
    assert list(rankings(task(ranker({"rank": ["1", "2", "3"]}), was_cancelled=True))) == []
    assert list(rankings({**task(), "annotations": []})) == []


BROKEN = {
    "another export type": ({"prompt": "p", "ranking": {}}, r"annotations: missing: export as JSON"),
    "no data": ({"annotations": task(side("left"))["annotations"]}, r"data: missing"),
    "no labeler": (task(ranker({"rank": ["1"]}), completed_by=None), r"annotations\.0\.completed_by: null found"),
    "no result": (task(result=None), r"annotations\.0\.result: null found, a list expected"),
    "nothing chosen": (pair(choice("other")), r"annotations\.0\.result: one ranking, preference or tie expected, found none"),
    "both a side and a tie": (pair(side("left"), choice("tie")), r"expected, found left, none"),
    "neither side": (pair(side("middle")), r"expected, found middle"),
    "pair without texts": (pair(side("left"), data={"prompt": "p", "a": "x"}), r"data: left and right expected, found prompt, a"),
    "two rankers": (task(ranker({}), ranker({})), r"annotations\.0\.result: 2 of type 'ranker' found"),
    "no rank in a bucket's name": (task(ranker({"_": [], "good": ["1"]})), r"result\.0\.value\.ranker: buckets 'good' found, rank_1"),
    "twice": (task(ranker({"_": [], "rank_1": ["1"], "rank_2": ["1"]})), r"ranker: an item is there twice"),
    "unknown item": (task(ranker({"_": [], "rank_1": ["1", "9"]})), r"one list with the ids of all its items.*found data\.items"),
    "no value": (task({"type": "ranker", "from_name": "rank"}), r"annotations\.0\.result\.0\.value: missing"),
    "item without text": (
        task(ranker({"rank": ["1"]}), data={"prompt": "p", "items": [{"id": "1"}]}),
        r"data\.items\.0\.body: missing, a text expected",
    ),
    "items of one id": (
        task(ranker({"rank": ["1"]}), data={"prompt": "p", "items": [*ITEMS, ITEMS[0]]}),
        r"data\.items: two items have the same id",
    ),
    "no lists of systems": ({**task(ranker({"rank": ["1"]})), "meta": {"systems": [1, 2, 3]}}, r"meta\.systems: .*3 lists expected"),
    "no prompt": (task(ranker({"rank": ["1"]}), data={"items": ITEMS}), r"data\.prompt: missing"),
    "systems of others": ({**task(ranker({"rank": ["1"]})), "meta": {"systems": [["s"]]}}, r"meta\.systems: 1 entries found, 3 lists expected"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_annotation_says_what_is_wrong(case: str) -> None:
    record, message = BROKEN[case]
    with pytest.raises(ValueError, match=message):
        list(rankings(record))


def test_a_broken_annotation_leaves_the_others_of_its_task() -> None:
    good, broken = task(ranker({"rank": ["1", "2", "3"]})), task(ranker({"rank": ["9"]}))
    record = {**good, "annotations": [*broken["annotations"], *good["annotations"]]}
    ranked = rankings(record)
    assert next(ranked)["ranks"] == [1, 2, 3]
    with pytest.raises(ValueError, match=r"^annotations\.0\.result"):
        next(ranked)


def test_what_compares_nothing_is_no_judgment() -> None:
    untouched = {"_": ["1", "2", "3"], "rank_1": []}  # what the editor submits then
    assert list(rankings(task(ranker(untouched)))) == []
    assert list(rankings(task(ranker({"_": ["1", "2"], "rank_1": ["3"]})))) == []
    assert list(rankings(pair())) == []
