"""Flow `pipeline`: all of dvc.yaml, chained from the flows of its parts."""

import asyncio

from prefect import flow

from flows.execution import start_execution
from flows.graph import TARGETS
from flows.parts import comparison_import, prefix_tuning, pretraining, reward_modeling


@flow(name="pipeline")
async def pipeline() -> None:
    """Runs the four parts side by side; a stage starts as soon as all it needs is made, in whichever part that happens.

    What no part needs (the report) runs at the end. A failed stage fails its part and this flow, but nothing that does not
    depend on it.
    """
    async with start_execution() as execution:
        execution.share(TARGETS.values())
        parts = (pretraining, comparison_import, reward_modeling, prefix_tuning)
        states = await asyncio.gather(*(part(return_state=True) for part in parts))
        await execution.run(tuple(execution.graph.upstream))
        execution.raise_failures(execution.to_run)
        for state in states:  # what went wrong in a part beside its stages
            await state.aresult()
