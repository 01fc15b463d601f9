"""Flow `prefix_tuning`: every variant of adapting the frozen base model."""

from prefect import flow

from flows.execution import run_targets

TARGETS = ("prefix_tuning",)


@flow(name="prefix_tuning")
async def prefix_tuning() -> None:
    """Runs its stages and all they need, as far as they are not up to date."""
    await run_targets(TARGETS)
