"""Flow `reward_modeling`: a reward model from the comparison collection."""

from prefect import flow

from flows.execution import run_targets

TARGETS = ("reward_model",)


@flow(name="reward_modeling")
async def reward_modeling() -> None:
    """Runs its stages and all they need, as far as they are not up to date."""
    await run_targets(TARGETS)
