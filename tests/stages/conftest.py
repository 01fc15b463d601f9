"""A project folder of its own, with real tracking in it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core import tracking

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def empty_tracking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty data base, made once: migrations take seconds."""
    folder = tmp_path_factory.mktemp("tracking")
    MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def project(empty_tracking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with this project's params.yaml and an empty MLflow data base."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, tmp_path / name)
    (tmp_path / "tracking").mkdir()
    shutil.copy(empty_tracking, tmp_path / "tracking" / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv(tracking.PARENT_VARIABLE, raising=False)
    tracking.client.cache_clear()
    yield tmp_path
    tracking.client.cache_clear()
