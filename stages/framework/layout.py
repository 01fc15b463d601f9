"""Where stages find each other's outputs; dvc.yaml names the same paths."""

from pathlib import Path

ARTIFACTS = Path("artifacts")
CORPUS = ARTIFACTS / "corpus"
TOKENIZER = ARTIFACTS / "tokenizer"
ENCODED = ARTIFACTS / "encoded"
TRANSLATORS = ARTIFACTS / "translators"  # one folder per architecture
EVALUATION = ARTIFACTS / "evaluation"  # one folder per architecture
RESPONSES = ARTIFACTS / "responses"  # one folder per architecture
COMPARISONS = ARTIFACTS / "comparisons"
LANGUAGE_MODEL = ARTIFACTS / "language_model"
REWARD_MODELS = ARTIFACTS / "reward_models"  # one folder per variant
BASE_MODEL = ARTIFACTS / "base_model"
PREFIXES = ARTIFACTS / "prefix_tuning"  # one folder per variant
LONG_LAG = ARTIFACTS / "long_lag"  # one folder per line of long_lag.tasks
REPORT = ARTIFACTS / "report"

LABELED = Path("labeled")  # labelers' exports, put there by the user
WORK = Path(".gradus")  # checkpoints and unfinished outputs; safe to delete when nothing runs

CURVE = "curve.json"  # one entry a validation
EVALUATED = "evaluation.json"  # a reward model against the rankings held out
SUMMARY = "summary.json"  # what a stage measured, in its output folder
TRIALS = "trials.json"  # each trial of a long-lag task
EXAMPLES = "examples.json"
HEAT_MAP = "attention.json"
