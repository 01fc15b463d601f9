"""What `gradus rank` does: lines of responses in, the same lines with scores out."""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from core.errors import InputError, NotFiniteError
from data.comparisons.ranking import read_messages, written_out
from data.tokenizer import encode
from gradus.inference.input_lines import Line
from gradus.inference.translate import load_ensemble
from lightning_modules.decoding.translation import log_probabilities
from model_io.files import CONFIG, read_config
from model_io.reward_model import load_reward_model

MAX_LENGTH = 4096  # tokens of a text that a translator scores: the memory of attention grows with the square
Scores = Callable[[list[dict[str, Any]]], list[list[float]]]  # the scores of each case's responses


def rewards(folder: Path, groups: Iterable[list[Line]], warn: Callable[[str], Any]) -> Iterator[str]:
    """For each JSON line with `prompt` and `responses` the same with `rewards` and `order`.

    A blank line gives a blank line. A group of lines is scored together. `warn` gets a message for every line that was changed
    when it was read.

    Raises:
        InputError: a line is not such an object, or the model cannot read it. It names the line; the lines before it are written first.
    """
    model = load_reward_model(folder)
    return _scored(groups, warn, "rewards", lambda cases: [values.tolist() for values in model.rewards(cases)])


def is_translator(folder: Path) -> bool:
    """Whether a model folder holds a translator. Raises InputError when it holds no model."""
    return "architecture" in read_config(folder / CONFIG, "a reward model or a translator")


def rescored(folders: list[Path], groups: Iterable[list[Line]], warn: Callable[[str], Any]) -> Iterator[str]:
    """As `rewards`, by log P(response | prompt) of a translator or an ensemble, under the key `log_probabilities`.

    Cho et al. (2014, 3.1) rescore phrase pairs so, Sutskever et al. (2014, 3.2) the n-best lists of another system.
    """
    ensemble, tokenizer = load_ensemble(folders)

    def scores(cases: list[dict[str, Any]]) -> list[list[float]]:
        sources = encode(tokenizer, [case["prompt"] for case in cases for _ in case["responses"]])
        targets = encode(tokenizer, [response for case in cases for response in case["responses"]])
        if (longest := max(map(len, itertools.chain(sources, targets)), default=0)) > MAX_LENGTH:
            raise InputError(f"a prompt or response has {longest:,} tokens; at most {MAX_LENGTH:,} are scored.")
        log_p = iter(log_probabilities(ensemble, sources, targets))
        return [list(itertools.islice(log_p, len(case["responses"]))) for case in cases]

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
        case_scores = _each({number: _with_text(case) for number, case in cases.items()}, scores)
        for line in read:
            case = cases.get(line.number)
            yield "" if case is None else _ranked(case, key, next(case_scores))
        if wrong:
            raise wrong


def _each(cases: dict[int, dict[str, Any]], scores: Scores) -> Iterator[list[float]]:
    """Scores all cases together. If that fails, one by one, up to the case that cannot be scored, which the error names."""
    try:
        together = checked_finite(scores(list(cases.values()))) if cases else []
    except InputError:
        for number, case in cases.items():
            try:
                (alone,) = checked_finite(scores([case]))
            except InputError as error:
                raise InputError(f"standard input, line {number}: {error}") from None
            yield alone
    else:
        yield from together


def checked_finite(scores: list[list[float]]) -> list[list[float]]:
    """`scores`. Raises NotFiniteError (an InputError) if one is not finite."""
    if not all(map(math.isfinite, itertools.chain(*scores))):
        raise NotFiniteError
    return scores


def _ranked(case: dict[str, Any], key: str, scores: list[float]) -> str:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return json.dumps({**case, key: [round(score, 6) for score in scores], "order": order}, ensure_ascii=False)


def _case(line: Line) -> dict[str, Any]:
    where = f"standard input, line {line.number}"
    try:
        case = json.loads(line.text)
        json.dumps(case, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno}).") from None
    except UnicodeEncodeError:  # JSON can write what is not text
        raise InputError(f"{where}: half a surrogate pair (\\ud800 to \\udfff alone), which is not a letter.") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply.") from None
    except ValueError as error:  # NaN, infinity, an integer of thousands of digits
        raise InputError(f"{where}: not JSON that can be read and written again ({error}).") from None
    responses = case.get("responses") if isinstance(case, dict) else None
    try:
        texts = [_with_text(case)["prompt"], *responses] if isinstance(responses, list) and responses else [None]
    except ValueError as error:  # wrong messages
        raise InputError(f"{where}: {error}.") from None
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f'{where}: expected {{"prompt": "...", "responses": ["...", ...]}}.')
    return case


def _with_text(case: dict[str, Any]) -> dict[str, Any]:
    """A case whose prompt is a text; a chat (`messages`, or a list of messages as `prompt`) is written out. Raises ValueError."""
    prompt, messages = case.get("prompt"), case.get("messages")
    if isinstance(prompt, list):
        prompt = written_out(read_messages(prompt, "prompt"))
    elif prompt is None and messages is not None:
        prompt = written_out(read_messages(messages, "messages"))
    return {**case, "prompt": prompt}
