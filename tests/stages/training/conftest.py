from pathlib import Path

import pytest

from core.stage_run import StageRun
from stages.framework.params import load_params
from stages.framework.stage import Stage


@pytest.fixture
def stage(project: Path) -> Stage:
    return Stage(
        "pretraining@transformer", "transformer", load_params(), project, StageRun("pretraining@transformer"), "key"
    )
