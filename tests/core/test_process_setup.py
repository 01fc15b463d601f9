"""A process is set up by one call: importing this project's packages changes no variable of the environment."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def output(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_changes_no_variable() -> None:
    modules = "core.tracking, core.recorder, gradus.cli, model_io.language_model"
    # huggingface_hub, transformers and others read the environment; none of what they set is this project's.
    ours = "('GRADUS_', 'MLFLOW_', 'PREFECT_', 'DO_NOT_TRACK', 'HF_', 'TRANSFORMERS_', 'ONEDNN_', 'THP_')"
    code = f"import os; before = dict(os.environ); import {modules}; print([k for k in os.environ if k not in before and k.startswith({ours})])"
    assert output(code) == "[]"


def test_what_the_user_has_set_is_kept() -> None:
    code = (
        "import os; os.environ['HF_HUB_DISABLE_PROGRESS_BARS'] = '0'; from core.process_setup import set_up_process; set_up_process(); "
        "print(os.environ['HF_HUB_DISABLE_PROGRESS_BARS'], os.environ['DO_NOT_TRACK'])"
    )
    assert output(code) == "0 true"
