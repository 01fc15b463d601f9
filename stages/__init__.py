"""One file per stage of dvc.yaml: `python -m stages.NAME` reads inputs, calls `data` and `lightning_modules`, writes outputs."""

import os
import warnings

# Nothing here reports to anybody; tokenizers run before any fork.
for _variable, _value in {
    "DO_NOT_TRACK": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "true",
}.items():
    os.environ.setdefault(_variable, _value)
warnings.filterwarnings("ignore", module="pytorch_lightning")
warnings.filterwarnings("ignore", module="torch")
