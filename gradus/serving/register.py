"""What `gradus register` does: put a reward model or a prefix into MLflow's registry, ready for `mlflow models serve`."""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from core import tracking
from core.errors import InputError
from data.templates import template_fields
from model_io.prefix import PREFIX_CONFIG, check_base, read_prefix
from model_io.reward_model import REWARD_CONFIG, read_reward_config

SERVED = Path(__file__).with_name("served_reward_model.py")
SERVED_PREFIX = Path(__file__).with_name("served_prefix.py")


def register(folder: Path, name: str | None = None) -> str:
    """Stores a folder as the registered model `name` (default: `prefix` or `reward_model`) with the alias `candidate`.

    Returns NAME/VERSION.

    Raises:
        InputError: MLflow does not accept the name; or `folder` is neither a reward model nor a prefix, is damaged, or is of a kind that
            the served code, plain `transformers`, does not read: prefix-tuned reward models, infixes, prompts of embeddings.
    """
    tracking.client()  # before MLflow is imported; it creates the data base if it does not exist
    import mlflow
    from mlflow.exceptions import MlflowException

    is_prefix = (folder / PREFIX_CONFIG).is_file() and not (folder / REWARD_CONFIG).exists()
    logged = _prefix(folder) if is_prefix else _reward_model(folder)
    name = name or ("prefix" if is_prefix else "reward_model")
    mlflow.set_tracking_uri(tracking.uri())
    with mlflow.start_run(experiment_id=tracking.experiment(), run_name=f"register {name}"):
        try:
            stored = mlflow.pyfunc.log_model(
                name=name,
                **logged,
                registered_model_name=name,
                pip_requirements=[
                    f"{package}=={version(package)}" for package in ("mlflow", "torch", "transformers", "pandas")
                ],
            )
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise InputError(f"{name}: {error.message}") from None
    number = str(stored.registered_model_version)
    tracking.client().set_registered_model_alias(name, "candidate", number)
    return f"{name}/{number}"


def _prefix(folder: Path) -> dict[str, Any]:
    """What MLflow stores for a prefix: some hundred kB, and the folder of its base model."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    config, _ = read_prefix(folder)
    if config["kind"] != "prefix" or config.get("position") == "infix":
        raise InputError(
            f"{folder}: only prefixes of keys and values before the input are served; use `gradus generate`."
        )
    base = Path(os.environ.get("GRADUS_BASE_MODEL") or config["base"]).resolve()
    if not base.is_dir():
        raise InputError(f"{base}: the base model of {folder} is not there. Name its folder in GRADUS_BASE_MODEL.")
    check_base(folder, config, base)
    return {
        "python_model": str(SERVED_PREFIX),
        "artifacts": {"prefix": str(folder)},
        "model_config": {"base": str(base)},
        "signature": ModelSignature(
            inputs=Schema([ColSpec(DataType.string, "source")]),
            outputs=Schema([ColSpec(DataType.string)]),
            params=ParamSchema(
                [ParamSpec("max_new_tokens", DataType.long, 64), ParamSpec("beam_size", DataType.long, 1)]
            ),
        ),
    }


def _reward_model(folder: Path) -> dict[str, Any]:
    """What MLflow stores for a reward model."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    config = read_reward_config(folder)
    if config.prefix:
        raise InputError(
            f"{folder}: prefix-tuned reward models cannot be served by plain transformers; use `gradus rank`."
        )
    columns = ["prompt", "response"] + (["reference"] if "reference" in template_fields(config.frame.template) else [])
    return {
        "python_model": str(SERVED),
        "artifacts": {"model": str(folder)},
        "signature": ModelSignature(
            inputs=Schema([ColSpec(DataType.string, column) for column in columns]),
            outputs=Schema([ColSpec(DataType.double)]),
        ),
        "input_example": pd.DataFrame({column: ["..."] for column in columns}),
    }
