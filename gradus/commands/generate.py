"""`gradus generate`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from core.errors import InputError
from gradus.errors import taught_errors

SEARCH, SAMPLES = "Search", "Sampling"


def generate(
    model: Annotated[Path, typer.Option(help="Folder of a language model, e.g. artifacts/base_models/smollm2.")],
    prefix: Annotated[
        list[str],
        typer.Option(
            help="Folder of a prefix of this model, e.g. artifacts/prefix_tuning/prefix. Or several, each as NAME=DIR: every line then "
            "begins with the name of its prefix and a tab. Lines of all prefixes are continued in one batch."
        ),
    ] = [],  # noqa: B006 - typer copies it
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum number of new tokens.")] = 64,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Maximum number of lines that are continued together. No result depends on it.")
    ] = 16,
    beam_size: Annotated[
        int, typer.Option(min=1, help="Width of the beam; 1 is greedy search.", rich_help_panel=SEARCH)
    ] = 1,
    length_penalty: Annotated[
        float | None,
        typer.Option(
            show_default="1",
            help="x of log P / length^x, which ranks hypotheses of a beam, as in `transformers`. Above 0 it favours longer ones.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    samples: Annotated[
        bool,
        typer.Option(
            "--sample", metavar="", help="Draw one sample for each line instead of searching.", rich_help_panel=SAMPLES
        ),
    ] = False,
    temperature: Annotated[
        float | None,
        typer.Option(
            show_default="1",
            help="Only with --sample: the logits are divided by it; below 1 it sharpens the distribution.",
            rich_help_panel=SAMPLES,
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            show_default="1",
            help="Only with --sample: draw from the fewest tokens that have this probability together.",
            rich_help_panel=SAMPLES,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(show_default="0", help="Only with --sample: seed of the draws.", rich_help_panel=SAMPLES),
    ] = None,
) -> None:
    """Continue standard input, one prompt per line, with a language model. A prefix puts its own template around the line.

    Output comes as soon as there is input. A line that is too long, or that names an unknown prefix, ends the command with an error
    that names the line. The lines before it are written first.

    Example: `echo "Jesus wept." | gradus generate --model artifacts/base_models/smollm2 --prefix artifacts/prefix_tuning/prefix --beam-size 5`
    """
    from gradus.inference.generate import ContinuedLines, named_prefixes
    from gradus.inference.input_lines import line_groups, standard_input

    with taught_errors():
        if samples and beam_size > 1:
            raise InputError(f"--sample draws without a beam: leave out --beam-size {beam_size}.")
        all_sampling = {"temperature": temperature, "top_p": top_p, "seed": seed}
        sampling = {name: value for name, value in all_sampling.items() if value is not None}
        if sampling and not samples:
            raise InputError(f"--{next(iter(sampling)).replace('_', '-')} is for --sample: give both, or leave it out.")
        if length_penalty is not None and beam_size == 1:
            raise InputError("--length-penalty ranks hypotheses of a beam: give --beam-size, or leave it out.")
        options = {
            "method": "sample" if samples else "beam", "beam_size": beam_size, "max_new_tokens": max_new_tokens,
            "length_penalty": 1.0 if length_penalty is None else length_penalty, **sampling,
        }  # fmt: skip
        lines = ContinuedLines(model, named_prefixes(prefix), options, partial(typer.echo, err=True))
        for line in lines(line_groups(standard_input(), batch_size)):
            typer.echo(line.encode())
