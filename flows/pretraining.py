"""Flow `pretraining`: corpus to trained and tested translators, and the language model."""

from prefect import flow

from flows.execution import run_targets

TARGETS = ("evaluation", "language_model")


@flow(name="pretraining")
async def pretraining() -> None:
    """Runs its stages and all they need, as far as they are not up to date."""
    await run_targets(TARGETS)
