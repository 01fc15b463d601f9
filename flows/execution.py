"""How a flow runs its part of the graph: what is needed runs first, what does not depend on a failure still runs."""

import asyncio
import contextvars
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.context import FlowRunContext
from prefect.states import Failed, State

from core import tracking
from core.pipeline_config import PipelineSettings, load_settings
from flows.graph import Graph, changed_stages, read_graph
from flows.slots import Slots
from flows.stages import run_stage


class Execution:
    """One run of (part of) the graph. Flows that are called from another flow share its execution."""

    def __init__(self, graph: Graph, to_run: set[str], settings: PipelineSettings, parent: str) -> None:
        self.graph, self.to_run, self.settings, self.parent = graph, to_run, settings, parent
        self.claimed: set[str] = set()
        self.owned: dict[tuple[str, ...], set[str]] = {}
        self.ended: dict[str, asyncio.Future[State[Any]]] = {
            s: asyncio.get_running_loop().create_future() for s in to_run
        }
        self.slots = Slots(settings.slots)

    def share(self, parts: Iterable[tuple[str, ...]]) -> None:
        """Divides the graph between parts, given by their targets: each gets what it needs and no part before it has."""
        for targets in parts:
            self.owned[targets] = self._claim(targets)

    async def run(self, targets: tuple[str, ...]) -> list[State[Any]]:
        """Runs a part: its share of the graph, or all it needs that nobody has claimed; returns the states of the failed."""
        mine = self.owned.get(targets) if targets in self.owned else self._claim(targets)
        states = await asyncio.gather(*(self._stage(s) for s in sorted(mine or ())))
        return [state for state in states if not state.is_completed()]

    def up_to_date(self) -> list[str]:
        """The stages that did not have to run, and those that have run without a failure by now."""
        done = {
            s
            for s, ended in self.ended.items()
            if ended.done() and not ended.cancelled() and ended.result().is_completed()
        }
        return sorted(self.graph.upstream.keys() - self.to_run | done)

    def log_headlines(self) -> None:
        """Gives the parent run the headline metrics of all stages that are up to date, whether they ran now or before."""
        for stage in self.up_to_date():
            summary = self.graph.output.get(stage, Path()) / "summary.json"
            if summary.is_file():
                tracking.log_headlines(self.parent, stage, json.loads(summary.read_text(encoding="utf-8")))

    def _claim(self, targets: Iterable[str]) -> set[str]:
        mine = (self.graph.closure(targets) & self.to_run) - self.claimed
        self.claimed |= mine
        return mine

    async def _stage(self, stage: str) -> State[Any]:
        ended = self.ended[stage]
        try:
            needed = [self.ended[n] for n in sorted(self.graph.upstream[stage]) if n in self.ended]
            upstream = [await asyncio.shield(future) for future in needed]  # cancelling one that waits cancels no other
            slot = await self.slots.acquire(len(self.graph.downstream([stage])))
            try:
                # With a failed upstream state Prefect does not start the task: its state is then NotReady.
                state: State[Any] = await run_stage(  # type: ignore[misc]
                    stage, self.settings.timeout_minutes, self._variables(slot), wait_for=upstream, return_state=True
                )
            finally:
                self.slots.release(slot)
        except Exception as error:  # Prefect's own, such as a server that is gone
            state = Failed(message=f"stage {stage} could not be run: {type(error).__name__}: {error}")
        except asyncio.CancelledError:
            ended.cancel()  # nobody may wait for it for ever
            raise
        ended.set_result(state)
        return state

    def _variables(self, slot: int) -> dict[str, str]:
        threads = max(1, len(os.sched_getaffinity(0)) // self.settings.slots)
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
        RuntimeError: a stage failed; the message has the last lines of each failed stage and names those that could not run.
    """
    execution = _current.get()
    if execution:
        raise_failures(await execution.run(targets))
        return
    async with start_execution() as execution:
        raise_failures(await execution.run(targets))


def raise_failures(failed: Iterable[State[Any]]) -> None:
    """Raises RuntimeError with the messages of failed states, if there are any."""
    messages = [str(state.message) for state in failed]
    if messages:
        raise RuntimeError("\n".join(messages))


class start_execution:
    """Context of a flow that is not part of another: reads the graph, opens the MLflow parent run, ends it."""

    async def __aenter__(self) -> Execution:
        context = FlowRunContext.get()
        flow_run = context.flow_run if context else None
        started_by = f"the flow run {flow_run.name}" if flow_run else "a flow"
        identity = str(flow_run.id) if flow_run else "none"
        graph = read_graph()
        to_run = graph.downstream(changed_stages())
        logger = get_run_logger()
        up_to_date = len(graph.upstream) - len(to_run)
        logger.info(
            f"{len(graph.upstream)} stages, {up_to_date} up to date"
            + (f", to run: {', '.join(sorted(to_run))}" if to_run else "")
        )
        settings = load_settings()
        self.parent = tracking.safely(lambda: tracking.start_parent(started_by, identity), "") if to_run else ""
        self.execution = Execution(graph, to_run, settings, self.parent)
        self.token = _current.set(self.execution)
        return self.execution

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        _current.reset(self.token)
        if self.parent:
            skipped = self.execution.graph.upstream.keys() - self.execution.to_run
            tracking.safely(self.execution.log_headlines, None)
            tracking.safely(lambda: tracking.finish_parent(self.parent, kind is None, skipped), None)


def _gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]
