"""What the commands `generate`, `rank` and `evaluate-rankings` do with the pipeline's models."""

import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import stages  # noqa: F401 - its settings silence libraries before they are imported
from data.comparisons.agreement import agreement
from data.comparisons.collection import read_collection
from data.comparisons.evaluation import compare, evaluate, padded
from data.comparisons.importing import Source, import_rankings
from data.errors import InputError
from data.settings import validated
from data.tokenizer import encode
from gradus.input_lines import Line
from gradus.translating import load_ensemble
from lightning_modules.decoding import log_probabilities
from lightning_modules.generation import GenerationSettings, write
from lightning_modules.prefix_tuning import NoPrefix
from stages.language_model_folder import load_causal_model
from stages.model_files import CONFIG, read_config
from stages.prefix_folder import SavedPrefix, load_prefix
from stages.reward_folder import load_reward_model

Scores = Callable[[list[dict[str, Any]]], list[list[float]]]  # of each case its responses'


def continuations(
    folder: Path,
    prefix: Path | None,
    options: dict[str, Any],
    groups: Iterable[list[Line]],
    warn: Callable[[str], Any],
) -> Iterator[str]:
    """For each line its continuation by the language model, with the prefix's template around the line where there is one.

    `options` are those of `GenerationSettings`. An empty line gives an empty line. A group of lines is written together. `warn` is
    told of every line that was not read as it stands.

    Raises:
        InputError: an option is wrong, or a line with the prefix and what may be written is longer than the model's context; the
            lines before it are written first.
    """
    settings = validated(GenerationSettings, options, "options")
    model, tokenizer = load_causal_model(folder)
    model.requires_grad_(False)
    saved = load_prefix(prefix, model, folder) if prefix else SavedPrefix(NoPrefix(), "{source}", "none")
    virtual, context = len(saved.adapter.flat()), getattr(model.config, "max_position_embeddings", None)
    if context and virtual + 1 + settings.max_pieces > context:
        raise InputError(
            f"a prefix of {virtual} positions and {settings.max_pieces} pieces to write leave no room for an input in the {context} positions of "
            f"{folder}: lower --max-pieces."
        )
    allowed = context - virtual - settings.max_pieces if context else None
    for lines in groups:
        for line in lines:
            if line.problem:
                warn(f"standard input, line {line.number}: {line.problem}.")
        texts = [line.text.strip() for line in lines]
        ids = [tokenizer(saved.template.format_map({"source": text}))["input_ids"] if text else [] for text in texts]
        wrong = next((i for i, pieces in enumerate(ids) if allowed is not None and len(pieces) > allowed), len(ids))
        full = [i for i in range(wrong) if ids[i]]
        prompts, rows = [ids[i] for i in full], [lines[i].number for i in full]
        found = write(model, saved.adapter, prompts, tokenizer.eos_token_id, settings, batch=len(lines), rows=rows)
        written = dict(zip(full, tokenizer.batch_decode(found, skip_special_tokens=True), strict=True))
        yield from (" ".join(written.get(i, "").split()) for i in range(wrong))
        if wrong < len(ids):
            raise InputError(
                f"standard input, line {lines[wrong].number}: {len(ids[wrong])} pieces with its template, but {folder} takes {allowed}: "
                f"its {context} positions less {virtual} of the prefix and {settings.max_pieces} to write (--max-pieces)."
            )


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
        together = scores(list(cases.values())) if cases else []
    except InputError:
        for number, case in cases.items():
            try:
                (alone,) = scores([case])
            except InputError as error:
                raise InputError(f"standard input, line {number}: {error}") from None
            yield alone
    else:
        yield from together


def _ranked(case: dict[str, Any], key: str, found: list[float]) -> str:
    order = sorted(range(len(found)), key=lambda i: -found[i])
    return json.dumps({**case, key: [round(v, 6) for v in found], "order": order}, ensure_ascii=False)


def evaluation(folder: Path, file: Path, format: str) -> dict[str, Any]:
    """How far a reward model agrees with the rankings of a collection or a file.

    Raises:
        InputError: there is no reward model or no ranking, or a record of the file is wrong.
    """
    model = load_reward_model(folder)
    with tempfile.TemporaryDirectory() as temporary:
        if not file.is_dir():
            import_rankings([Source(source=str(file), format=format)], Path(temporary) / "rankings", strict=True)
        rows = read_collection(file if file.is_dir() else Path(temporary) / "rankings")
        scored, kept = model.of_rankings(rows)
        if not len(kept):
            raise InputError(
                f"{file}: the model can read none of its {len(rows)} rankings: too long, or without a reference."
            )
        unread, rows = len(rows) - len(kept), rows.select(kept)
        scores = padded([values.tolist() for values in scored])
        ranks, lengths = padded(rows["ranks"]), padded([list(map(len, responses)) for responses in rows["responses"]])
        if not len(compare(scores, ranks)):
            raise InputError(f"{file}: all its rankings are ties: there is no comparison to evaluate.")
        return {**evaluate(scores, ranks, lengths, model.temperature), "not_read": unread, "labelers": agreement(rows)}


def _case(line: Line) -> dict[str, Any]:
    where = f"standard input, line {line.number}"
    try:
        case = json.loads(line.text)
        json.dumps(case, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno}).") from None
    except UnicodeEncodeError:  # JSON can spell what is no text
        raise InputError(f"{where}: half a surrogate pair (\\ud800 to \\udfff alone), which is no letter.") from None
    responses = case.get("responses") if isinstance(case, dict) else None
    if (
        not isinstance(responses, list)
        or not responses
        or not all(isinstance(r, str) for r in [case.get("prompt"), *responses])
    ):
        raise InputError(f'{where}: expected {{"prompt": "...", "responses": ["...", ...]}}.')
    return case
