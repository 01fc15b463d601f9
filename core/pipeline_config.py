"""Settings of the flows: the section `pipeline` of params.yaml. They change no result."""

from pathlib import Path

from pydantic import Field

from core.config import Config, read_yaml, validated


class PipelineConfig(Config):
    """How flows run stages."""

    slots: int = Field(default=2, ge=1)
    """Stages that run at the same time. On a machine with GPUs: their number."""
    timeout_minutes: float = Field(default=240, gt=0)
    """Minutes after which a stage is ended as failed."""


def load_settings(path: Path = Path("params.yaml")) -> PipelineConfig:
    """The section `pipeline`; raises InputError on wrong keys."""
    values = read_yaml(path.read_text(encoding="utf-8")) or {}
    return validated(PipelineConfig, values.get("pipeline"), f"{path}: pipeline")
