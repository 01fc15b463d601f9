"""What `gradus translate` does: lines in, translations out as soon as there is something to translate."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from core.errors import InputError
from data.tokenizer import FILE, decode, encode, unknown_token
from data.word_alignment import Source, read_dictionary, target_words, with_known_words, word_alignment
from gradus.input_lines import Line
from lightning_modules.decoding.translation import DecodingConfig, Ensemble, Hypothesis, translate
from lightning_modules.training.precision import has_bf16
from model_io.translator import load_translator


@dataclass(frozen=True)
class Wanted:
    """What is written for a line."""

    json: bool = False
    alignments: bool = False
    replace_unknown: bool = False
    dictionary: Mapping[str, str] = field(default_factory=dict)


class TranslatedLines:
    """One model or an ensemble, ready to translate lines.

    Args:
        longest: tokens of a source that are read; less where a model has a limit of its own.
        warn: told of every line that was not read as it stands.

    Raises:
        InputError: a folder is no translator, the members do not share a vocabulary, or something is wanted that they cannot give.
    """

    def __init__(
        self, folders: list[Path], settings: DecodingConfig, wanted: Wanted, longest: int, warn: Callable[[str], Any]
    ) -> None:
        self.ensemble, self.tokenizer = load_ensemble(folders)
        self.settings, self.wanted, self.warn = settings, wanted, warn
        self.longest = min(longest, self.ensemble.longest_source or longest)
        names = ", ".join(map(str, folders))
        if settings.precision == "bf16-mixed" and not has_bf16(self.ensemble.device.type):
            warn("--precision bf16-mixed: not on this device, products are taken in single precision.")
        if settings.alignments and not self.ensemble.attends:
            raise InputError(f"{names}: no attention, so no alignments to show or to replace unknown words by.")
        if settings.coverage_penalty and not self.ensemble.attends:
            raise InputError(f"{names}: no attention, so no coverage to penalise. Leave out --coverage-penalty.")
        if wanted.replace_unknown and unknown_token(self.tokenizer) is None:
            raise InputError(
                f"{names}: the tokenizer can write every word, so none is unknown. Leave out --replace-unknown; "
                f"`tokenizer: {{kind: words}}` in params.yaml makes a vocabulary that has unknown words."
            )

    def __call__(self, groups: Iterable[list[Line]]) -> Iterator[list[str]]:
        """For each line what is written for it: `n_best` lines of text, or one JSON object. Groups stay in order."""
        for lines in groups:
            tokens = encode(self.tokenizer, [line.text.strip() for line in lines])
            problems = [self._problem(line, len(ids)) for line, ids in zip(lines, tokens, strict=True)]
            tokens = [ids[: self.longest] for ids in tokens]
            answers = {  # made as they are found: no more than a batch's weights are held at one time
                i: self._answer(lines[i].text, problems[i], tokens[i], found)
                for i, found in translate(self.ensemble, tokens, self.settings)
            }
            yield from (answers[i] for i in range(len(lines)))

    def _answer(self, text: str, problem: str | None, tokens: list[int], found: list[Hypothesis]) -> list[str]:
        source = Source(self.tokenizer, text.strip(), len(tokens)) if self.settings.alignments else None
        written = [self._written(source, tokens, h) for h in found]
        if self.wanted.json:
            return [json.dumps({"source": text, "problem": problem, "translations": written}, ensure_ascii=False)]
        count = self.settings.n_best
        padded = (written + [written[-1]] * count)[:count]  # an empty line has one hypothesis
        return ["\t".join(self._columns(w)) for w in padded]

    def _problem(self, line: Line, tokens: int) -> str | None:
        problems = [line.problem] if line.problem else []
        if tokens > self.longest:
            problems.append(f"{tokens:,} tokens, of which the first {self.longest} were read")
        problem = "; ".join(problems) or None
        if problem:
            self.warn(f"standard input, line {line.number}: {problem}.")
        return problem

    def _written(self, source: Source | None, source_tokens: list[int], h: Hypothesis) -> dict[str, Any]:
        """Text and score of a hypothesis; with alignments, (source word, target word) and the weights of all steps."""
        if source and self.wanted.replace_unknown and h.alignment is not None:
            text = with_known_words(self.tokenizer, source, h.tokens, h.alignment, self.wanted.dictionary)
        else:
            (text,) = decode(self.tokenizer, [h.tokens])
        written: dict[str, Any] = {"text": " ".join(text.split()), "score": round(h.score, 4)}  # a line stays one
        if source and self.wanted.alignments:
            none = np.zeros((0, 0))  # of an empty line, which no step was taken for
            weights = none if h.alignment is None else h.alignment
            written["alignment"] = word_alignment(weights, source.words, target_words(self.tokenizer, h.tokens))
            if self.wanted.json:
                written["source_tokens"], written["tokens"] = (
                    [self.tokenizer.id_to_token(p) for p in side] for side in (source_tokens, h.tokens)
                )
                attention = none if h.attention is None else h.attention
                written["attention"] = [[round(w, 4) for w in row] for row in attention.tolist()]
        return written

    def _columns(self, written: dict[str, Any]) -> Iterator[str]:
        if self.settings.n_best > 1:
            yield f"{written['score']:.4f}"
        yield written["text"]
        if self.wanted.alignments:
            yield " ".join(f"{s}-{t}" for s, t in written["alignment"])


def wanted(as_json: bool, alignments: bool, replace_unknown: bool, dictionary: Path | None) -> Wanted:
    """Raises InputError on a dictionary that cannot be read or that nothing would use."""
    if dictionary and not replace_unknown:
        raise InputError("--dictionary: it is for --replace-unknown. Give both, or leave it out.")
    return Wanted(as_json, alignments, replace_unknown, read_dictionary(dictionary) if dictionary else {})


def load_ensemble(folders: Sequence[Path]) -> tuple[Ensemble, Tokenizer]:
    """Translators of any architectures as one, and their tokenizer.

    Raises:
        InputError: as `load_translator`, or two of them do not have the same tokenizer.
    """
    first = folders[0]
    loaded = [load_translator(folder) for folder in folders]
    for folder, (_, tokenizer, _) in zip(folders, loaded, strict=True):
        if tokenizer.to_str() != loaded[0][1].to_str():
            raise InputError(
                f"{folder}: its {FILE} is not that of {first}: the members of an ensemble must share a vocabulary. "
                f"Give models of one run, or train with one tokenizer."
            )
    return Ensemble([model for model, _, _ in loaded]), loaded[0][1]
