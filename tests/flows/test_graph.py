"""The graph that flows read from dvc.yaml."""

from pathlib import Path

import pytest

from flows.graph import Graph, plan

PROJECT = Path(__file__).parents[2]


def test_it_is_that_of_dvc_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    graph = plan().graph
    assert graph.upstream["tokenizer"] == {"corpus"}
    assert graph.upstream["comparisons"] == {"responses@luong", "responses@transformer"}
    assert graph.upstream["reward_model@paper"] == {"base_model", "comparisons", "language_model"}
    assert graph.closure(["prefix_tuning"]) == {
        "corpus",
        "base_model",
        "prefix_tuning@none",
        "prefix_tuning@embedding",
        "prefix_tuning@prefix",
    }
    assert graph.closure(graph.upstream) == set(graph.upstream)
    assert graph.downstream(["reward_model@paper"]) == {"reward_model@paper", "report"}


def test_names_without_an_item_stand_for_all_items() -> None:
    graph = Graph({"a": frozenset(), "b@1": frozenset({"a"}), "b@2": frozenset(), "c": frozenset({"b@1"})})
    assert graph.named("b") == ["b@1", "b@2"]
    assert graph.closure(["b@2"]) == {"b@2"}
    assert graph.closure(["c"]) == {"a", "b@1", "c"}
    assert graph.downstream(["a"]) == {"a", "b@1", "c"}
    with pytest.raises(KeyError, match="no stage 'd'"):
        graph.closure(["d"])
