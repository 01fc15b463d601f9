"""How far a reward model agrees with given rankings."""

import tempfile
from pathlib import Path
from typing import Any

from core.config import validated
from core.errors import InputError
from data.comparisons.collection import read_collection
from data.comparisons.importing.rankings import import_rankings
from data.comparisons.importing.source import Source
from gradus.inference.rank import checked_finite
from metrics.labeler_agreement import agreement
from metrics.rankings import compare, evaluate, padded
from model_io.reward_model import load_reward_model


def evaluation(folder: Path, file: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The measures of a reward model's folder on the rankings of a collection, or of a file that is read as `options` of a `Source` say.

    Raises:
        InputError: there is no reward model or no ranking, the format is unknown, a record of the file is wrong, or a score is not finite.
    """
    model = load_reward_model(folder)
    with tempfile.TemporaryDirectory() as temporary:
        if not file.is_dir():
            source = validated(Source, {"source": str(file), **options}, "options")
            import_rankings([source], Path(temporary) / "rankings", strict=True)
        rows = read_collection(file if file.is_dir() else Path(temporary) / "rankings")
        rewards, read = model.rewards_of_rankings(rows)
        if not len(read):
            raise InputError(
                f"{file}: the model can read none of its {len(rows)} rankings: too long, or without a reference."
            )
        not_read, rows = len(rows) - len(read), rows.select(read)
        scores = padded(checked_finite([values.tolist() for values in rewards]))
        ranks, lengths = padded(rows["ranks"]), padded([list(map(len, responses)) for responses in rows["responses"]])
        if not len(compare(scores, ranks)):
            raise InputError(f"{file}: all its rankings are ties: there is no comparison to evaluate.")
        measures = evaluate(scores, ranks, lengths, model.temperature)
        return {**measures, "not_read": not_read, "labelers": agreement(rows)}
