"""Lightning is loaded with the metrics that are used, and no more."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[3]


def test_a_training_loads_nothing_that_it_does_not_use() -> None:
    code = (
        "import sys, stages.pretraining; from lightning_modules.training.lightning import torchmetrics\n"
        "torchmetrics.MeanMetric().update(1.0)\n"
        "print(*{'scipy', 'matplotlib', 'transformers', 'mlflow'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert run.stdout == "\n"
