"""How a flow runs its part of the graph: what is needed runs first, what does not depend on a failure still runs."""

import asyncio
import contextvars
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.context import FlowRunContext
from prefect.states import Failed, State

from core import tracking
from core.pipeline_config import PipelineConfig, load_settings
from flows.graph import Graph, plan
from flows.repro import Repro
from flows.results import headlines, print_results
from flows.slots import Slots
from flows.stages import StageFailed, run_stage
from flows.view import DONE, FAILED, NOT_RUN, View, open_view


class StagesFailed(RuntimeError):
    """Stages failed; the message has the last lines of each, and names those that could not run for that."""


class Execution:
    """One run of (part of) the graph. Flows that are called from another flow share its execution."""

    def __init__(self, graph: Graph, to_run: set[str], config: PipelineConfig, parent: str, view: View) -> None:
        self.graph, self.to_run, self.config, self.parent, self.view = graph, to_run, config, parent, view
        self.claimed: set[str] = set()
        self.owned: dict[tuple[str, ...], set[str]] = {}
        self.ended: dict[str, asyncio.Future[State[Any]]] = {
            s: asyncio.get_running_loop().create_future() for s in to_run
        }
        self.slots, self.repro = Slots(config.slots), Repro()

    def share(self, parts: Iterable[tuple[str, ...]]) -> None:
        """Divides the graph between parts, given by their targets: each gets what it needs and no part before it has."""
        for targets in parts:
            self.owned[targets] = self._claim(targets)

    async def run(self, targets: tuple[str, ...]) -> set[str]:
        """Runs a part: its share of the graph, or all it needs that nobody has claimed; returns its stages."""
        mine = self.owned[targets] if targets in self.owned else self._claim(targets)
        await asyncio.gather(*(self._stage(s) for s in sorted(mine)))
        return mine

    def raise_failures(self, stages: Iterable[str]) -> None:
        """Raises StagesFailed if one of `stages`, all of which have ended, is not completed."""
        states = {stage: self.ended[stage].result() for stage in sorted(stages)}
        outcomes = {stage: _outcome(state) for stage, state in states.items()}
        messages = [str(states[stage].message) for stage, outcome in outcomes.items() if outcome == FAILED]
        # Prefect puts words of its own before the message of an exception.
        texts = [message.rpartition(f"{StageFailed.__name__}: ")[2] for message in messages]
        if not_run := [stage for stage, outcome in outcomes.items() if outcome == NOT_RUN]:
            texts.append(f"Not run, for they need what failed: {', '.join(not_run)}.")
        if texts:
            raise StagesFailed("\n\n".join(texts))

    def results(self) -> dict[str, float]:
        """The headline metrics of all stages that are up to date, whether they ran now or before."""
        ended = {stage: future for stage, future in self.ended.items() if future.done() and not future.cancelled()}
        done = {stage for stage, future in ended.items() if future.result().is_completed()}
        return headlines(self.graph, sorted(self.graph.upstream.keys() - self.to_run | done))

    def _claim(self, targets: Iterable[str]) -> set[str]:
        mine = (self.graph.closure(targets) & self.to_run) - self.claimed
        self.claimed |= mine
        return mine

    async def _stage(self, stage: str) -> None:
        ended = self.ended[stage]
        try:
            needed = [self.ended[n] for n in sorted(self.graph.upstream[stage]) if n in self.ended]
            upstream = [await asyncio.shield(future) for future in needed]  # cancelling one that waits cancels no other
            slot = await self.slots.acquire(len(self.graph.downstream([stage])))
            try:
                # With a failed upstream state Prefect does not start the task: its state is then NotReady.
                state: State[Any] = await run_stage(  # type: ignore[misc]
                    stage,
                    self.config.timeout_minutes,
                    self._variables(slot),
                    self.view,
                    self.repro,
                    wait_for=upstream,
                    return_state=True,
                )
            finally:
                self.slots.release(slot)
        except Exception as error:  # Prefect's own, such as a server that is gone
            state = Failed(message=f"stage {stage} could not be run: {type(error).__name__}: {error}")
        except asyncio.CancelledError:
            ended.cancel()  # nobody may wait for it for ever
            raise
        ended.set_result(state)
        self.view.ended(stage, _outcome(state))

    def _variables(self, slot: int) -> dict[str, str]:
        threads = max(1, _cores() // self.config.slots)
        variables = {
            "OMP_NUM_THREADS": str(threads),
            "RAYON_NUM_THREADS": str(threads),
            tracking.PARENT_VARIABLE: self.parent,
        }
        if gpus := _gpus():
            variables["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        return variables


_current: contextvars.ContextVar[Execution | None] = contextvars.ContextVar("execution", default=None)


async def run_targets(targets: tuple[str, ...]) -> None:
    """The body of a flow: runs `targets` and all they need.

    Raises:
        StagesFailed: some stages failed, or could not run.
    """
    execution = _current.get()
    if execution:
        execution.raise_failures(await execution.run(targets))
        return
    async with start_execution(targets) as execution:
        execution.raise_failures(await execution.run(targets))


class start_execution:
    """Context of a flow that is not part of another: reads the graph, shows the run, opens the MLflow parent run, ends both.

    The flow runs `targets` and what they need, or all of the graph.
    """

    def __init__(self, targets: tuple[str, ...] = ()) -> None:
        self.targets = targets

    async def __aenter__(self) -> Execution:
        context = FlowRunContext.get()
        flow_run = context.flow_run if context else None
        started_by = f"the flow run {flow_run.name}" if flow_run else "a flow"
        identity = str(flow_run.id) if flow_run else "none"
        planned = plan()
        graph, to_run = planned
        get_run_logger().info(str(planned))
        config = load_settings()
        self.parent = tracking.safely(lambda: tracking.start_parent(started_by, identity), "") if to_run else ""
        title = f"{len(graph.upstream)} stages, {len(graph.upstream) - len(to_run)} up to date"
        view = open_view(title, to_run & graph.closure(self.targets or graph.upstream))
        self.execution = Execution(graph, to_run, config, self.parent, view)
        self.token = _current.set(self.execution)
        return self.execution

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        _current.reset(self.token)
        self.execution.view.close()
        self.execution.repro.close()
        results = self.execution.results()
        if self.parent:
            skipped = self.execution.graph.upstream.keys() - self.execution.to_run
            tracking.safely(lambda: tracking.log_metrics(self.parent, results), None)
            tracking.safely(lambda: tracking.finish_parent(self.parent, kind is None, skipped), None)
        if kind is None or issubclass(kind, Exception):  # not where somebody ended it
            print_results(results)


def _outcome(state: State[Any]) -> str:
    # With a failed stage upstream Prefect does not start a task.
    return DONE if state.is_completed() else NOT_RUN if state.name == "NotReady" else FAILED


def _cores() -> int:
    """The cores that this process may use; all of the machine where the system does not tell, as on macOS."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]
