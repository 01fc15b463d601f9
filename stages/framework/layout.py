"""Where stages find each other's outputs; dvc.yaml names the same paths."""

from pathlib import Path

ARTIFACTS = Path("artifacts")
INPUTS = ARTIFACTS / "inputs"  # what is read from outside: corpus.json, comparisons/NAME.json, base_models/NAME.json
NOTHING = "{}\n"  # such a file of a stage that reads nothing
CORPUS = ARTIFACTS / "corpus"
TOKENIZER = ARTIFACTS / "tokenizer"
ENCODED = ARTIFACTS / "encoded"
TRANSLATORS = ARTIFACTS / "translators"  # one folder per architecture
EVALUATION = ARTIFACTS / "evaluation"  # one folder per architecture
RESPONSES = ARTIFACTS / "responses"  # one folder per architecture
COMPARISONS = ARTIFACTS / "comparisons"  # one folder per collection
LANGUAGE_MODELS = ARTIFACTS / "language_models"  # one folder per line of language_models
REWARD_MODELS = ARTIFACTS / "reward_models"  # one folder per variant
BASE_MODELS = ARTIFACTS / "base_models"  # one folder per line of base_models
PREFIXES = ARTIFACTS / "prefix_tuning"  # one folder per variant
LONG_LAG = ARTIFACTS / "long_lag"  # one folder per line of long_lag.tasks
REPORT = Path("report")

LABELED = Path("labeled")  # labelers' exports, put there by the user
WORK = Path(".gradus")  # checkpoints and unfinished outputs; safe to delete when nothing runs

CURVE = "curve.json"  # one entry a validation
EVALUATED = "evaluation.json"  # a reward model against the rankings held out
SUMMARY = "summary.json"  # what a stage measured, in its output folder
TRIALS = "trials.json"  # each trial of a long-lag task
EXAMPLES = "examples.json"
HEAT_MAP = "attention.json"
