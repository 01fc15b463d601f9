"""What the commands `rank` and `evaluate-rankings` do with the pipeline's models."""

import itertools
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from core.config import validated
from core.errors import InputError, NotFiniteError
from data.comparisons.collection import read_collection
from data.comparisons.importing import Source, import_rankings
from data.tokenizer import encode
from gradus.input_lines import Line
from gradus.translating import load_ensemble
from lightning_modules.decoding.translation import log_probabilities
from metrics.collections.agreement import agreement
from metrics.rankings import compare, evaluate, padded
from model_io.files import CONFIG, read_config
from model_io.reward_model import load_reward_model

LONGEST = 4096  # tokens of a text that a translator scores: what attention takes grows with the square
Scores = Callable[[list[dict[str, Any]]], list[list[float]]]  # of each case its responses'


def rewards(folder: Path, groups: Iterable[list[Line]], warn: Callable[[str], Any]) -> Iterator[str]:
    """For each JSON line with `prompt` and `responses` the same with `rewards` and `order`.

    A blank line gives a blank line. A group of lines is scored together. `warn` is told of every line that was not read as it
    stands.

    Raises:
        InputError: a line is no such object, or the model cannot read it; names it, after the lines before it are written.
    """
    model = load_reward_model(folder)
    return _scored(groups, warn, "rewards", lambda cases: [values.tolist() for values in model.rewards(cases)])


def is_translator(folder: Path) -> bool:
    """Whether a model folder holds a translator. Raises InputError when it holds no model."""
    return "architecture" in read_config(folder / CONFIG, "a reward model or a translator")


def rescored(folders: list[Path], groups: Iterable[list[Line]], warn: Callable[[str], Any]) -> Iterator[str]:
    """As `rewards`, by log P(response | prompt) of a translator or an ensemble: `log_probabilities` in place of `rewards`.

    Cho et al. (2014, 3.1) rescore phrase pairs so, Sutskever et al. (2014, 3.2) the n-best lists of another system.
    """
    ensemble, tokenizer = load_ensemble(folders)

    def scores(cases: list[dict[str, Any]]) -> list[list[float]]:
        sources = encode(tokenizer, [case["prompt"] for case in cases for _ in case["responses"]])
        targets = encode(tokenizer, [response for case in cases for response in case["responses"]])
        if (longest := max(map(len, itertools.chain(sources, targets)), default=0)) > LONGEST:
            raise InputError(f"a prompt or response has {longest:,} tokens; at most {LONGEST:,} are scored.")
        found = iter(log_probabilities(ensemble, sources, targets))
        return [list(itertools.islice(found, len(case["responses"]))) for case in cases]

    return _scored(groups, warn, "log_probabilities", scores)


def _scored(groups: Iterable[list[Line]], warn: Callable[[str], Any], key: str, scores: Scores) -> Iterator[str]:
    for lines in groups:
        cases: dict[int, dict[str, Any]] = {}  # by line number
        wrong: InputError | None = None
        read: list[Line] = []
        for line in lines:
            if line.problem:
                warn(f"standard input, line {line.number}: {line.problem}.")
            try:
                if line.text.strip():
                    cases[line.number] = _case(line)
            except InputError as error:
                wrong = error
                break
            read.append(line)
        found = _each(cases, scores)
        for line in read:
            case = cases.get(line.number)
            yield "" if case is None else _ranked(case, key, next(found))
        if wrong:
            raise wrong


def _each(cases: dict[int, dict[str, Any]], scores: Scores) -> Iterator[list[float]]:
    """Scores of all cases together; where one cannot be scored one by one, as far as that one, which the error names."""
    try:
        together = _finite(scores(list(cases.values()))) if cases else []
    except InputError:
        for number, case in cases.items():
            try:
                (alone,) = _finite(scores([case]))
            except InputError as error:
                raise InputError(f"standard input, line {number}: {error}") from None
            yield alone
    else:
        yield from together


def _finite(scores: list[list[float]]) -> list[list[float]]:
    if not all(map(math.isfinite, itertools.chain(*scores))):
        raise NotFiniteError
    return scores


def _ranked(case: dict[str, Any], key: str, found: list[float]) -> str:
    order = sorted(range(len(found)), key=lambda i: -found[i])
    return json.dumps({**case, key: [round(v, 6) for v in found], "order": order}, ensure_ascii=False)


def evaluation(folder: Path, file: Path, format: str) -> dict[str, Any]:
    """How far a reward model agrees with the rankings of a collection or a file.

    Raises:
        InputError: there is no reward model or no ranking, the format is unknown, a record of the file is wrong, or a score is not finite.
    """
    model = load_reward_model(folder)
    with tempfile.TemporaryDirectory() as temporary:
        if not file.is_dir():
            source = validated(Source, {"source": str(file), "format": format}, "options")
            import_rankings([source], Path(temporary) / "rankings", strict=True)
        rows = read_collection(file if file.is_dir() else Path(temporary) / "rankings")
        scored, kept = model.of_rankings(rows)
        if not len(kept):
            raise InputError(
                f"{file}: the model can read none of its {len(rows)} rankings: too long, or without a reference."
            )
        unread, rows = len(rows) - len(kept), rows.select(kept)
        scores = padded(_finite([values.tolist() for values in scored]))
        ranks, lengths = padded(rows["ranks"]), padded([list(map(len, responses)) for responses in rows["responses"]])
        if not len(compare(scores, ranks)):
            raise InputError(f"{file}: all its rankings are ties: there is no comparison to evaluate.")
        return {**evaluate(scores, ranks, lengths, model.temperature), "not_read": unread, "labelers": agreement(rows)}


def _case(line: Line) -> dict[str, Any]:
    where = f"standard input, line {line.number}"
    try:
        case = json.loads(line.text)
        json.dumps(case, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno}).") from None
    except UnicodeEncodeError:  # JSON can spell what is no text
        raise InputError(f"{where}: half a surrogate pair (\\ud800 to \\udfff alone), which is no letter.") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply.") from None
    except ValueError as error:  # NaN, infinity, an integer of thousands of digits
        raise InputError(f"{where}: no JSON that can be read and written again ({error}).") from None
    responses = case.get("responses") if isinstance(case, dict) else None
    if (
        not isinstance(responses, list)
        or not responses
        or not all(isinstance(r, str) for r in [case.get("prompt"), *responses])
    ):
        raise InputError(f'{where}: expected {{"prompt": "...", "responses": ["...", ...]}}.')
    return case
