"""`gradus register`."""

from pathlib import Path
from typing import Annotated

import typer

from gradus.errors import taught_errors


def register(
    model: Annotated[
        Path, typer.Option(help="Folder of a reward model or a prefix, e.g. artifacts/reward_models/grouped.")
    ],
    name: Annotated[
        str | None, typer.Option(show_default="reward_model, or prefix", help="Name in MLflow's model registry.")
    ] = None,
) -> None:
    """Put a reward model or a prefix into MLflow's model registry, with the alias `candidate`, ready to be served.

    Of a prefix only the prefix is stored. The server reads the base model from its present folder, or from GRADUS_BASE_MODEL.

    Example: `gradus register --model artifacts/reward_models/grouped`

    Then: `MLFLOW_TRACKING_URI=sqlite:///tracking/mlflow.db mlflow models serve -m models:/reward_model@candidate --env-manager local`
    """
    from gradus.serving.register import register as put_into_registry

    with taught_errors():
        typer.echo(f"models:/{put_into_registry(model, name)}, alias candidate")
