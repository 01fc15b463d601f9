"""`gradus register`: a reward model into MLflow's registry, ready for `mlflow models serve`."""

from importlib.metadata import version
from pathlib import Path

import pandas as pd

from data.comparisons.encoding import template_fields
from data.errors import InputError
from gradus import tracking
from stages.model_files import read_config

SERVED = Path(__file__).with_name("served_reward_model.py")


def register(folder: Path, name: str) -> str:
    """Stores the folder as the registered model `name`, with the alias `candidate`; returns its new version.

    Raises:
        InputError: `folder` is no reward model, or is prefix-tuned, which plain `transformers` cannot read.
    """
    config = read_config(folder / "reward.json", "a reward model, e.g. artifacts/reward_models/paper")
    if (folder / "prefix.safetensors").exists():
        raise InputError(
            f"{folder}: prefix-tuned reward models cannot be served by plain transformers; use `gradus rank`."
        )
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    columns = ["prompt", "response"] + (
        ["reference"] if "reference" in template_fields(config["frame"]["template"]) else []
    )
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.string, column) for column in columns]),
        outputs=Schema([ColSpec(DataType.double)]),
    )
    tracking.client()  # makes the data base where there is none
    mlflow.set_tracking_uri(tracking.uri())
    with mlflow.start_run(experiment_id=tracking.experiment(), run_name=f"register {name}"):
        stored = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(SERVED),
            artifacts={"model": str(folder)},
            signature=signature,
            input_example=pd.DataFrame({column: ["..."] for column in columns}),
            registered_model_name=name,
            pip_requirements=[
                f"{package}=={version(package)}" for package in ("mlflow", "torch", "transformers", "pandas")
            ],
        )
    number = str(stored.registered_model_version)
    tracking.client().set_registered_model_alias(name, "candidate", number)
    return number
