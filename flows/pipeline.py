"""Flow `pipeline`: all of dvc.yaml, chained from the flows of its parts."""

import asyncio

from prefect import flow

from flows import comparison_import, prefix_tuning, pretraining, reward_modeling
from flows.execution import raise_failures, start_execution

PARTS = {
    pretraining.TARGETS: pretraining.pretraining,
    comparison_import.TARGETS: comparison_import.comparison_import,
    reward_modeling.TARGETS: reward_modeling.reward_modeling,
    prefix_tuning.TARGETS: prefix_tuning.prefix_tuning,
}


@flow(name="pipeline")
async def pipeline() -> None:
    """Runs the four parts side by side; a stage starts as soon as all it needs is made, in whichever part that happens.

    What no part needs (the report) runs at the end. A failed stage fails its part and this flow, but nothing that does not
    depend on it.
    """
    async with start_execution() as execution:
        execution.share(PARTS)
        states = await asyncio.gather(*(part(return_state=True) for part in PARTS.values()))
        rest = await execution.run(tuple(execution.graph.upstream))
        raise_failures([*(s for s in states if not s.is_completed()), *rest])
