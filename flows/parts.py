"""The flows of the pipeline's parts: each runs its targets and all that these need, as far as they are not up to date."""

from collections.abc import Coroutine
from typing import Any

from prefect import Flow, flow

from flows.execution import run_targets
from flows.graph import TARGETS


def _part(name: str, description: str) -> Flow[[], Coroutine[Any, Any, None]]:
    """A flow of the stages that `TARGETS` names."""

    async def run() -> None:
        await run_targets(TARGETS[name])

    run.__name__ = run.__qualname__ = (
        name  # a process that serves the flow looks for it in this module by its function's name
    )
    return flow(name=name, description=description)(run)


pretraining = _part(
    "pretraining", "Corpus to trained and tested translators, the language model, and the LSTM of 1997 on its tasks."
)
comparison_import = _part(
    "comparison_import", "The translators' responses and labelers' exports to a comparison collection."
)
reward_modeling = _part("reward_modeling", "A reward model for each variant, from the comparison collection.")
prefix_tuning = _part("prefix_tuning", "Every variant of adapting the frozen base model.")
