"""`gradus translate`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from core.errors import InputError
from gradus.errors import taught_errors

LINES_TOGETHER = 1024  # at most: sorted by length, in batches of a number of tokens
SEARCH, ALIGNMENTS, TEXT = "Search", "Alignments and unknown words", "Input and output"


def translate(
    model: Annotated[
        list[Path],
        typer.Option(
            help="Folder of a translator, e.g. artifacts/translators/transformer. Given several times: an ensemble. Its models may have "
            "any architectures, but one tokenizer."
        ),
    ],
    beam_size: Annotated[
        int | None,
        typer.Option(min=1, show_default="5", help="Width of the beam; 1 is greedy search.", rich_help_panel=SEARCH),
    ] = None,
    beam_alpha: Annotated[
        float | None,
        typer.Option(
            show_default="0.6",
            help="alpha of log P / ((5 + length) / 6)^alpha, which ranks hypotheses (Wu et al. 2016). Above 0 it favours longer ones.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    coverage_penalty: Annotated[
        float,
        typer.Option(
            min=0,
            help="beta of Wu et al. (2016): favours hypotheses that attend to every source token. For models with attention.",
            rich_help_panel=SEARCH,
        ),
    ] = 0.0,
    n_best: Annotated[
        int,
        typer.Option(
            min=1,
            help="Hypotheses for each line, one per line: score, tab, text. At most --beam-size.",
            rich_help_panel=SEARCH,
        ),
    ] = 1,
    samples: Annotated[
        bool,
        typer.Option(
            "--sample", metavar="", help="Draw --n-best samples instead of a beam search.", rich_help_panel=SEARCH
        ),
    ] = False,
    seed: Annotated[
        int | None, typer.Option(show_default="0", help="Seed of --sample.", rich_help_panel=SEARCH)
    ] = None,
    precision: Annotated[
        Literal["32-true", "bf16-mixed"],
        typer.Option(
            help="Matrix multiplications in float32, or in bf16, which is faster on CPUs and GPUs that have it.",
            rich_help_panel=SEARCH,
        ),
    ] = "32-true",
    max_length: Annotated[int, typer.Option(min=1, help="Tokens of a line that are read.", rich_help_panel=TEXT)] = 256,
    overlong: Annotated[
        Literal["truncate", "drop"],
        typer.Option(
            help="What happens to a line with more tokens: `truncate` leaves out the rest, `drop` writes an empty line. Both name it.",
            rich_help_panel=TEXT,
        ),
    ] = "truncate",
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            metavar="",
            help="Write a JSON object for each line; with --alignments also tokens and all attention weights.",
            rich_help_panel=TEXT,
        ),
    ] = False,
    alignments: Annotated[
        bool,
        typer.Option(
            "--alignments",
            metavar="",
            help="Write one more column: source-target word pairs, counted from 0 (`0-0 2-1`).",
            rich_help_panel=ALIGNMENTS,
        ),
    ] = False,
    aligned_step: Annotated[
        Literal["predicted", "input", "paper"] | None,
        typer.Option(
            show_default="predicted",
            help="The step whose attention weights align a token: `predicted` (the step that predicted it), `input` (that read it), or "
            "`paper` (as the model's paper says).",
            rich_help_panel=ALIGNMENTS,
        ),
    ] = None,
    replace_unknown: Annotated[
        bool,
        typer.Option(
            "--replace-unknown",
            metavar="",
            help="Write the aligned source word where the model writes an unknown word.",
            rich_help_panel=ALIGNMENTS,
        ),
    ] = False,
    dictionary: Annotated[
        Path | None,
        typer.Option(
            help="Only with --replace-unknown: a file of lines `source word, tab, translation`; the translation is written instead.",
            rich_help_panel=ALIGNMENTS,
        ),
    ] = None,
) -> None:
    """Translate standard input, one sentence per line. Every line gives one line (or --n-best lines), in the same order.

    Output comes as soon as there is input: lines that arrive together are decoded together, and no line waits for another.

    No line is lost. An empty line gives an empty line. Bytes that are not UTF-8 are read as U+FFFD. A line with more tokens than
    --max-length (or than the model can read) is cut, or dropped with --overlong drop. Standard error names such lines.

    Example: `echo "In the beginning God created the heaven and the earth." | gradus translate --model artifacts/translators/transformer`
    """
    with taught_errors():
        beam_options = {
            "--beam-size": beam_size,
            "--beam-alpha": beam_alpha,
            "--coverage-penalty": coverage_penalty or None,
        }
        if samples and (useless := [name for name, value in beam_options.items() if value is not None]):
            raise InputError(f"{useless[0]} is for beam search: leave it out with --sample.")
        if seed is not None and not samples:
            raise InputError("--seed is for --sample: give both, or leave it out; beam search draws nothing.")
        if aligned_step and not (alignments or replace_unknown):
            raise InputError("--aligned-step is for --alignments and --replace-unknown: give one, or leave it out.")
        if dictionary and not replace_unknown:
            raise InputError("--dictionary: it is for --replace-unknown. Give both, or leave it out.")
        beam_size = 5 if beam_size is None else beam_size
        if n_best > beam_size and not samples:
            raise InputError(f"--n-best {n_best} needs --beam-size {n_best} or more (found {beam_size}).")
        from core.config import validated
        from data.word_alignment import read_dictionary
        from gradus.inference.input_lines import line_groups, standard_input
        from gradus.inference.translate import Output, TranslatedLines
        from lightning_modules.decoding.translation import DecodingConfig

        options = {
            "method": "sample" if samples else "beam", "beam_size": beam_size, "n_best": n_best, "coverage_penalty": coverage_penalty,
            "beam_alpha": 0.6 if beam_alpha is None else beam_alpha, "seed": seed or 0,
            "alignments": alignments or replace_unknown, "aligned_step": aligned_step or "predicted",
            "precision": precision,
        }  # fmt: skip
        config = validated(DecodingConfig, options, "options")
        output = Output(as_json, alignments, replace_unknown, read_dictionary(dictionary) if dictionary else {})
        lines = TranslatedLines(model, config, output, max_length, partial(typer.echo, err=True), overlong == "drop")
        for translated in lines(line_groups(standard_input(), LINES_TOGETHER)):
            typer.echo("\n".join(translated).encode())
