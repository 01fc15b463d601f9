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
from data.word_alignment import SourceWords, replace_unknown_words, target_words, word_alignment
from gradus.inference.input_lines import Line
from lightning_modules.decoding.translation import DecodingConfig, Ensemble, Hypothesis, translate
from lightning_modules.training.precision import has_bf16
from model_io.translator import load_translator


@dataclass(frozen=True)
class Output:
    """What is written for a line."""

    json: bool = False
    alignments: bool = False
    replace_unknown: bool = False
    dictionary: Mapping[str, str] = field(default_factory=dict)


class TranslatedLines:
    """One model or an ensemble, ready to translate lines.

    Args:
        max_length: tokens of a source that are read; fewer if a model has a lower limit.
        warn: gets a message for every line that was changed when it was read.
        drop: a longer source gives an empty line; otherwise its rest is left out.

    Raises:
        InputError: a folder is not a translator, the models do not share a vocabulary, or cannot give what `config` and `output` ask for.
    """

    def __init__(
        self,
        folders: list[Path],
        config: DecodingConfig,
        output: Output,
        max_length: int,
        warn: Callable[[str], Any],
        drop: bool = False,
    ) -> None:
        self.ensemble, self.tokenizer = load_ensemble(folders)
        self.config, self.output, self.warn, self.drop = config, output, warn, drop
        self.max_length = min(max_length, self.ensemble.longest_source or max_length)
        names = ", ".join(map(str, folders))
        if config.precision == "bf16-mixed" and not has_bf16(self.ensemble.device.type):
            warn("--precision bf16-mixed: this device does not have it: matrix multiplications are in float32.")
        if config.alignments and not self.ensemble.attends:
            raise InputError(f"{names}: no attention, so no alignments to show or to replace unknown words by.")
        if config.coverage_penalty and not self.ensemble.attends:
            raise InputError(f"{names}: no attention, so no coverage to penalise. Leave out --coverage-penalty.")
        if output.replace_unknown and unknown_token(self.tokenizer) is None:
            raise InputError(
                f"{names}: the tokenizer can write every word, so none is unknown. Leave out --replace-unknown; "
                f"`tokenizer: {{words: {{vocab_size: 10000}}}}` in params.yaml makes a vocabulary that has unknown words."
            )

    def __call__(self, groups: Iterable[list[Line]]) -> Iterator[list[str]]:
        """For each line what is written for it: `n_best` lines of text, or one JSON object. Groups stay in order."""
        for lines in groups:
            tokens = encode(self.tokenizer, [line.text.strip() for line in lines])
            problems = [self._problem(line, len(ids)) for line, ids in zip(lines, tokens, strict=True)]
            tokens = [self._within_limit(ids) for ids in tokens]
            answers = {  # made batch by batch: the attention weights of only one batch are in memory
                i: self._answer(lines[i].text, problems[i], tokens[i], hypotheses)
                for i, hypotheses in translate(self.ensemble, tokens, self.config)
            }
            yield from (answers[i] for i in range(len(lines)))

    def _within_limit(self, tokens: list[int]) -> list[int]:
        return [] if self.drop and len(tokens) > self.max_length else tokens[: self.max_length]

    def _answer(self, text: str, problem: str | None, tokens: list[int], hypotheses: list[Hypothesis]) -> list[str]:
        source = SourceWords(self.tokenizer, text.strip(), len(tokens)) if self.config.alignments else None
        translations = [self._translation(source, tokens, h) for h in hypotheses]
        if self.output.json:
            return [json.dumps({"source": text, "problem": problem, "translations": translations}, ensure_ascii=False)]
        count = self.config.n_best
        padded = (translations + [translations[-1]] * count)[:count]  # an empty line has one hypothesis
        return ["\t".join(self._columns(translation)) for translation in padded]

    def _problem(self, line: Line, tokens: int) -> str | None:
        problems = [line.problem] if line.problem else []
        if tokens > self.max_length:
            done = "dropped" if self.drop else "of which the first {limit} were read"
            problems.append(f"{tokens:,} tokens, {done.format(limit=self.max_length)}")
        problem = "; ".join(problems) or None
        if problem:
            self.warn(f"standard input, line {line.number}: {problem}.")
        return problem

    def _translation(self, source: SourceWords | None, source_tokens: list[int], h: Hypothesis) -> dict[str, Any]:
        """Text and score of a hypothesis; with alignments, (source word, target word) and the weights of all steps."""
        if source and self.output.replace_unknown and h.alignment is not None:
            text = replace_unknown_words(self.tokenizer, source, h.tokens, h.alignment, self.output.dictionary)
        else:
            (text,) = decode(self.tokenizer, [h.tokens])
        values: dict[str, Any] = {"text": " ".join(text.split()), "score": round(h.score, 4)}  # text without line ends
        if source and self.output.alignments:
            no_weights = np.zeros((0, 0))  # of an empty line, for which there was no step
            weights = no_weights if h.alignment is None else h.alignment
            values["alignment"] = word_alignment(weights, source.words, target_words(self.tokenizer, h.tokens))
            if self.output.json:
                values["source_tokens"], values["tokens"] = (
                    [self.tokenizer.id_to_token(token) for token in side] for side in (source_tokens, h.tokens)
                )
                attention = no_weights if h.attention is None else h.attention
                values["attention"] = [[round(weight, 4) for weight in row] for row in attention.tolist()]
        return values

    def _columns(self, translation: dict[str, Any]) -> Iterator[str]:
        if self.config.n_best > 1:
            yield f"{translation['score']:.4f}"
        yield translation["text"]
        if self.output.alignments:
            yield " ".join(f"{s}-{t}" for s, t in translation["alignment"])


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
                f"{folder}: its {FILE} is not that of {first}: the models of an ensemble must share a vocabulary. "
                f"Give models of one run, or train with one tokenizer."
            )
    return Ensemble([model for model, _, _ in loaded]), loaded[0][1]
