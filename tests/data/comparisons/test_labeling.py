"""Labeling tasks: order, blindness, configuration, and the way back without a server."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from core.errors import InputError
from data.comparisons.collection import rankings as stored
from data.comparisons.collection import read_collection
from data.comparisons.formats.label_studio import rankings
from data.comparisons.importing.rankings import import_rankings
from data.comparisons.importing.source import Source
from data.comparisons.labeling import Template, labeling_config, tasks, write_tasks
from data.comparisons.ranking import Ranking, ranking
from gradus.cli import app


def candidates(k: int, prompt: str = "p", **more: Any) -> Ranking:
    values = {
        "prompt": prompt,
        "responses": [f"response {i}" for i in range(k)],
        "systems": [[f"system {i}"] for i in range(k)],
    }
    return ranking({**values, "ranks": [1] * k, "labeler": "x", "origin": "x", **more})


def lines(path: Path, *records: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return str(path)


def written(folder: Path, source: str, template: Template = "ranker") -> list[dict[str, Any]]:
    write_tasks(source, folder / "tasks.json", folder / "config.xml", template, seed=0)
    found: list[dict[str, Any]] = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    return found


def shown(one: Ranking, seed: int = 0) -> list[str]:
    (task,) = tasks(one, "ranker", seed)
    return [item["body"] for item in task["data"]["responses"]]


def test_the_order_is_of_the_seed_and_the_texts() -> None:
    one = candidates(9)
    turned = one.model_copy(update={"responses": one.responses[::-1]})
    assert shown(one) == shown(turned) != shown(one, seed=1)
    assert sorted(shown(one)) == sorted(one.responses)
    firsts = {shown(candidates(9, f"prompt {n}"))[0] for n in range(200)}
    assert len(firsts) == 9  # missing one by chance: 5e-10


def test_labelers_see_texts_and_letters_only() -> None:
    (task,) = tasks(candidates(9, reference="the reference"), "ranker", 0)
    assert set(task["data"]) == {"prompt", "responses"}
    assert all(set(item) == {"id", "body"} for item in task["data"]["responses"])  # Label Studio renders `html`
    assert [item["id"] for item in task["data"]["responses"]] == list("ABCDEFGHI")
    assert not any(hidden in json.dumps(task["data"]) for hidden in ("system", "reference"))
    assert (task["meta"]["reference"], len(task["meta"]["systems"])) == ("the reference", 9)


@pytest.mark.parametrize("k", range(2, 10))
def test_what_is_ranked_comes_back(k: int) -> None:
    one = candidates(k, messages=[{"role": "user", "content": "hi"}], reference="r")
    (task,) = tasks(one, "ranker", 3)
    rank_of = {text: n // 2 + 1 for n, text in enumerate(one.responses)} | ({one.responses[-1]: None} if k > 2 else {})
    buckets: dict[str, list[str]] = {}
    for item in task["data"]["responses"]:
        rank = rank_of[item["body"]]
        buckets.setdefault(f"rank_{rank}" if rank else "_", []).append(item["id"])
    result = {"from_name": "ranking", "type": "ranker", "value": {"ranker": buckets}}
    annotation = {"id": 5, "completed_by": 1, "was_cancelled": False, "result": [result]}
    (values,) = rankings({**task, "annotations": [annotation]})
    imported = ranking({**values, "origin": "x"})
    assert dict(zip(imported.responses, imported.ranks, strict=True)) == rank_of
    assert imported.systems
    assert dict(zip(imported.responses, imported.systems, strict=True)) == dict(
        zip(one.responses, one.systems or (), strict=True)
    )
    assert (imported.messages, imported.prompt, imported.reference) == (one.messages, one.prompt, one.reference)


def test_pairs_are_all_pairs_on_sides_by_chance() -> None:
    lefts = 0
    for n in range(50):
        made = list(tasks(candidates(4, f"prompt {n}"), "pairwise", 0))
        sides = [(t["data"]["left"], t["data"]["right"]) for t in made]
        assert len({frozenset(s) for s in sides}) == 6
        assert all(
            t["meta"]["systems"] == [[s.replace("response", "system")] for s in two]
            for t, two in zip(made, sides, strict=True)
        )
        lefts += sum(left < right for left, right in sides)
    assert 100 < lefts < 200  # of 300; chance leaves this range once in 10^8


@pytest.mark.parametrize("most", [2, 4, 9])
def test_the_configuration_names_what_the_tasks_have(most: int) -> None:
    config = ElementTree.fromstring(labeling_config("ranker", most))
    assert [b.get("name") for b in config.iter("Bucket")] == [f"rank_{n}" for n in range(1, most + 1)]
    for template in ("ranker", "pairwise"):
        config = ElementTree.fromstring(labeling_config(template, most))  # type: ignore[arg-type]
        names = {value[1:] for element in config.iter() if (value := element.get("value", "")).startswith("$")}
        (task, *_) = tasks(candidates(most), template, 0)  # type: ignore[arg-type]
        assert names == set(task["data"])


def test_texts_are_data(tmp_path: Path) -> None:
    texts = ["</script><script>alert(1)</script>", '<View a="b"/>', "]]>", 'x\u2028 \\ " $prompt {{x}} 😀']
    (task,) = written(tmp_path, lines(tmp_path / "c.jsonl", {"prompt": texts[0], "responses": texts}))
    assert task["data"]["prompt"] == texts[0]
    assert {item["body"] for item in task["data"]["responses"]} == set(texts)
    assert (tmp_path / "config.xml").read_text(encoding="utf-8") == labeling_config("ranker", 4)


def test_a_collection_is_asked_once_for_all_its_labelers(tmp_path: Path) -> None:
    judged = {"prompt": "p", "responses": ["a", "b"], "ranks": [2, 1], "systems": [["s"], ["t"]]}
    turned = {"prompt": "p", "responses": ["b", "a"], "ranks": [1, 2], "systems": [["t"], ["s"]]}
    source = lines(
        tmp_path / "r.jsonl",
        {**judged, "labeler": "ann"},
        {**turned, "labeler": "bob"},
        {**judged, "prompt": "q", "labeler": "ann"},
    )
    import_rankings([Source(source=source)], tmp_path / "collection")
    assert len(list(stored(read_collection(tmp_path / "collection")))) == 3
    candidates_written = written(tmp_path, str(tmp_path / "collection"))
    assert [t["data"]["prompt"] for t in candidates_written] == ["p", "q"]
    assert "ann" not in json.dumps(candidates_written)
    assert candidates_written == written(tmp_path, source)  # a file of rankings serves as well


def test_wrong_records_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    source = lines(
        tmp_path / "c.jsonl",
        {"prompt": "p", "responses": ["a", "b"]},
        {"prompt": "p", "responses": [str(i) for i in range(10)]},
        {"prompt": "p", "responses": ["a"]},
        {"prompt": "p", "responses": ["a", "a"]},
        {"prompt": "p", "responses": ["a", "b"], "system": [["s"], ["t"]]},
        {"responses": "ab"},
    )
    with pytest.raises(InputError) as error:
        written(tmp_path, source)
    for line, what in (
        (2, "K = 10, at most 9"),
        (3, "K = 1"),
        (4, "is there twice"),
        (5, "system: Extra"),
        (6, "prompt: "),
    ):
        assert any(m.startswith(f"{source}:{line}: ") and what in m for m in str(error.value).splitlines()), (
            line,
            str(error.value),
        )
    assert f"{source}:1" not in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.jsonl"]
    with pytest.raises(InputError, match="empty"):
        written(tmp_path, lines(tmp_path / "c.jsonl"))


def test_the_command_writes_tasks_and_configuration(tmp_path: Path) -> None:
    source = lines(tmp_path / "c.jsonl", {"prompt": "p", "responses": ["a", "b", "c"]})
    out = tmp_path / "made" / "tasks.json"
    done = CliRunner().invoke(app, ["comparisons", "tasks", source, "--output", str(out), "--template", "pairwise"])
    assert (done.exit_code, done.output) == (
        0,
        f"{out}: 3 tasks for 1 prompts, {out.parent / 'labeling_config.xml'}: their labeling configuration\n",
    )
    assert (out.parent / "labeling_config.xml").read_text(encoding="utf-8") == labeling_config("pairwise")
    assert CliRunner().invoke(app, ["comparisons", "tasks", "none.jsonl", "--output", str(out)]).exit_code == 2
