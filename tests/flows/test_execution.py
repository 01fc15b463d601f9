"""What a flow says of the stages that failed, and which cores it deals out."""

import asyncio
import os

import pytest
from prefect.states import Completed, Failed, Pending, State

from core.pipeline_config import PipelineConfig
from flows.execution import Execution, StagesFailed, _cores
from flows.graph import Graph
from flows.view import View


def raise_failures(**states: State) -> None:
    async def main() -> None:
        graph = Graph({stage: frozenset() for stage in states})
        execution = Execution(graph, set(states), PipelineConfig(), "", View("", states))
        for stage, state in states.items():
            execution.ended[stage].set_result(state)
        execution.raise_failures(states)

    asyncio.run(main())


def test_a_flow_fails_with_the_last_lines_of_failed_stages_and_the_names_of_those_that_need_them() -> None:
    prefix = "Task run encountered an exception StageFailed: "
    not_ready = Pending(name="NotReady", message="Upstream task run 'x' did not reach a 'COMPLETED' state.")
    with pytest.raises(StagesFailed) as failed:
        raise_failures(
            a=Completed(),
            b=Failed(message=f"{prefix}stage b failed. Its last lines:\nb: error: no such file"),
            c=not_ready,
            d=Failed(message="stage d could not be run: ConnectError: refused"),
            e=not_ready,
        )
    assert str(failed.value).split("\n\n") == [
        "stage b failed. Its last lines:\nb: error: no such file",
        "stage d could not be run: ConnectError: refused",
        "Not run, for they need what failed: c, e.",
    ]
    raise_failures(a=Completed())


def test_a_system_that_does_not_tell_a_process_cores_has_all_of_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert _cores() == os.cpu_count()
