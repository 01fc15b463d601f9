"""Flow `pipeline`: all of dvc.yaml, chained from the flows of its parts."""

import asyncio

from prefect import flow

from flows.comparison_import import comparison_import
from flows.execution import raise_failures, start_execution
from flows.prefix_tuning import prefix_tuning
from flows.pretraining import pretraining
from flows.reward_modeling import reward_modeling

PARTS = (pretraining, comparison_import, reward_modeling, prefix_tuning)


@flow(name="pipeline")
async def pipeline() -> None:
    """Runs the four parts side by side; a stage starts as soon as all it needs is made, in whichever part that happens.

    What no part claims (the report) runs at the end. A failed stage fails its part and this flow, but nothing that does not
    depend on it.
    """
    async with start_execution() as execution:
        states = await asyncio.gather(*(part(return_state=True) for part in PARTS))
        rest = await execution.run(execution.graph.upstream)
        raise_failures([*(s for s in states if not s.is_completed()), *rest])
