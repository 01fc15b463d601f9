"""The graph that flows read from dvc.yaml."""

from pathlib import Path

import pytest

from core.errors import InputError
from flows.graph import Graph, Plan, plan

PROJECT = Path(__file__).parents[2]


def test_it_is_that_of_dvc_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    graph = plan().graph
    assert graph.upstream["tokenizer@bpe"] == {"corpus@kjv_bbe"}
    assert graph.upstream["reference_comparisons@ours"] == {"responses@luong", "responses@transformer"}
    assert graph.upstream["reward_model@grouped"] == {"reference_comparisons@ours", "language_model@small"}
    assert graph.closure(["prefix_tuning"]) == {
        "corpus@kjv_bbe",
        "base_model@smollm2",
        "prefix_tuning@none",
        "prefix_tuning@prompt_tuning",
        "prefix_tuning@prefix",
    }
    assert graph.closure(graph.upstream) == set(graph.upstream)
    assert graph.downstream(["reward_model@grouped"]) == {"reward_model@grouped", "report"}


def test_names_without_an_item_stand_for_all_items() -> None:
    graph = Graph({"a": frozenset(), "b@1": frozenset({"a"}), "b@2": frozenset(), "c": frozenset({"b@1"})})
    assert graph.named("b") == ["b@1", "b@2"]
    assert graph.closure(["b@2"]) == {"b@2"}
    assert graph.closure(["c"]) == {"a", "b@1", "c"}
    assert graph.downstream(["a"]) == {"a", "b@1", "c"}
    with pytest.raises(KeyError, match="no stage 'd'"):
        graph.closure(["d"])
    assert graph.closure(["long_lag"]) == set(), "a part whose section is left out has no stages"


def test_a_flow_runs_what_its_targets_need_and_nothing_else() -> None:
    upstream = {
        "corpus": set(),
        "evaluation@a": {"corpus"},
        "language_model": set(),
        "long_lag@1": set(),
        "report": set(),
    }
    graph = Graph({name: frozenset(needs) for name, needs in upstream.items()})
    planned = Plan(graph, {"corpus", "report"})
    assert planned.of("pretraining") == {"corpus"}
    assert planned.of("pipeline") == {"corpus", "report"}
    assert str(planned) == "5 stages, 3 up to date, to run: corpus, report"
    assert str(Plan(graph, set())) == "5 stages, 5 up to date"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stages: [", "'dvc.yaml', YAML file structure is corrupted"),
        ("stages: {a: {foreach: '${b}', do: {cmd: x}}}", "'b'"),
    ],
)
def test_a_graph_that_cannot_be_read_is_an_error_in_dvcs_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(InputError, match=f"dvc cannot read the graph: .*{problem}"):
        plan()


def test_a_folder_without_git_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"is not a git repository.*dvc config --local core\.no_scm true"):
        plan()
