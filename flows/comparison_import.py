"""Flow `comparison_import`: the translators' responses and labelers' exports to a comparison collection."""

from prefect import flow

from flows.execution import run_targets

TARGETS = ("comparisons",)


@flow(name="comparison_import")
async def comparison_import() -> None:
    """Runs its stages and all they need, as far as they are not up to date."""
    await run_targets(TARGETS)
