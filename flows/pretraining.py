"""Flow `pretraining`: corpus to trained and tested translators, the language model, and the LSTM of 1997 on its tasks."""

from prefect import flow

from flows.execution import run_targets

TARGETS = ("evaluation", "language_model", "long_lag")


@flow(name="pretraining")
async def pretraining() -> None:
    """Runs its stages and all they need, as far as they are not up to date."""
    await run_targets(TARGETS)
