"""The command `gradus`: what users do by hand. Heavy imports happen inside the commands, so `--help` is quick."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from core.errors import InputError
from core.process_setup import set_up_process
from gradus import comparisons, prefixes
from gradus.errors import taught_errors

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Train the line of models from the LSTM to reward models and prefix-tuning, reproducibly.

    `gradus run` runs the pipeline of dvc.yaml; its settings are in params.yaml (`gradus use` chooses named ones).
    The other commands use what it made, in artifacts/.""",
)


@app.callback()
def _before_every_command() -> None:
    set_up_process()


app.add_typer(comparisons.app, name="comparisons")
app.add_typer(prefixes.app, name="prefix")

RANKED_TOGETHER = 64  # lines at most
TRANSLATED_TOGETHER = 1024  # at most: sorted by length, in batches of a number of tokens


@app.command()
def run(
    flow: Annotated[
        str,
        typer.Argument(
            help="Which flow: pipeline (all), pretraining, comparison_import, reward_modeling or prefix_tuning."
        ),
    ] = "pipeline",
) -> None:
    """Run the pipeline, or a part of it, as a Prefect flow.

    Stages that are up to date do not run; independent ones run side by side (pipeline.slots in params.yaml). Uses the
    Prefect server of PREFECT_API_URL, or a temporary one. `dvc repro` does the same without Prefect.
    """
    from gradus import running

    with taught_errors():
        raise typer.Exit(running.run(flow))


@app.command()
def ui(
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow UI.")] = 5000,
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect UI and API.")] = 4200,
) -> None:
    """Serve the MLflow and Prefect UIs on 127.0.0.1 until Ctrl-C."""
    from gradus import running

    with taught_errors():
        raise typer.Exit(running.serve_uis(mlflow_port, prefect_port))


@app.command()
def use(
    experiment: Annotated[
        str | None, typer.Argument(help="Name of a file of experiments/, without .yaml. Left out: list them.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Overwrite edits of params.yaml that no experiment has.")
    ] = False,
) -> None:
    """Write params.yaml: the default settings with those of an experiment over them.

    Example: `GRADUS_DATA=/path/to/mirror gradus use multi30k && gradus run` (the mirror is remembered). Back to the default: `gradus use default`.
    """
    from core.experiments import listing
    from gradus import use as using_experiment

    with taught_errors():
        typer.echo(using_experiment.use(experiment, force) if experiment else listing())


@app.command()
def translate(
    model: Annotated[
        list[Path],
        typer.Option(
            help="Folder of a translator, e.g. artifacts/translators/transformer. Given several times: an ensemble, of any "
            "architectures that share a tokenizer."
        ),
    ],
    beam_size: Annotated[
        int | None, typer.Option(min=1, show_default="5", help="Beam width; 1 is greedy search.")
    ] = None,
    beam_alpha: Annotated[
        float | None,
        typer.Option(
            show_default="0.6",
            help="Length normalisation: hypotheses are ranked by log P / ((5 + length) / 6) ^ this (Wu et al. 2016).",
        ),
    ] = None,
    coverage_penalty: Annotated[
        float,
        typer.Option(min=0, help="Beta of Wu et al. (2016): favours translations that attend to every source token."),
    ] = 0.0,
    n_best: Annotated[
        int, typer.Option(min=1, help="Hypotheses a line, as tab-separated score and text, at most --beam-size.")
    ] = 1,
    samples: Annotated[
        bool, typer.Option("--sample", metavar="", help="Draw --n-best samples instead of beam search.")
    ] = False,
    seed: Annotated[int | None, typer.Option(show_default="0", help="Seed of --sample.")] = None,
    alignments: Annotated[
        bool,
        typer.Option(
            "--alignments", metavar="", help="One more column: source-target word pairs, counted from 0 (`0-0 2-1`)."
        ),
    ] = False,
    aligned_step: Annotated[
        str | None,
        typer.Option(
            show_default="predicted",
            help="Of --alignments and --replace-unknown: the step whose weights count, `predicted` (that predicted the token), `input` (that "
            "read it), or `paper` (as the model's paper says).",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", metavar="", help="A JSON object a line; with --alignments also tokens and all attention weights."
        ),
    ] = False,
    replace_unknown: Annotated[
        bool,
        typer.Option("--replace-unknown", metavar="", help="Write the aligned source word for a word that is unknown."),
    ] = False,
    dictionary: Annotated[
        Path | None,
        typer.Option(help="For --replace-unknown: lines of source word, tab, translation to write instead."),
    ] = None,
    max_length: Annotated[int, typer.Option(min=1, help="Tokens of a line that are read.")] = 256,
    precision: Annotated[
        str, typer.Option(help="Of products of matrices: `32-true`, or `bf16-mixed`, faster where CPU or GPU have it.")
    ] = "32-true",
) -> None:
    """Translate standard input, one sentence a line; every line gives one line (or --n-best lines) in the same order.

    Output comes as soon as there is input: lines that are there together are decoded together, and none is waited for.

    A line is never lost: an empty one gives an empty one, bytes that are not UTF-8 are read as U+FFFD, and of a line with more
    than --max-length tokens (or what the model can read) the rest is left out. Standard error names such lines.

    Example: `echo "In the beginning God created the heaven and the earth." | gradus translate --model artifacts/translators/transformer`
    """
    with taught_errors():
        searching = {
            "--beam-size": beam_size,
            "--beam-alpha": beam_alpha,
            "--coverage-penalty": coverage_penalty or None,
        }
        if samples and (given := [name for name, value in searching.items() if value is not None]):
            raise InputError(f"{given[0]} is for beam search: leave it out with --sample.")
        if seed is not None and not samples:
            raise InputError("--seed is for --sample: give both, or leave it out; beam search draws nothing.")
        if aligned_step and not (alignments or replace_unknown):
            raise InputError("--aligned-step is for --alignments and --replace-unknown: give one, or leave it out.")
        beam_size = 5 if beam_size is None else beam_size
        if n_best > beam_size and not samples:
            raise InputError(f"--n-best {n_best} needs --beam-size {n_best} or more (found {beam_size}).")
        from core.config import validated
        from gradus import translating
        from gradus.input_lines import line_groups, standard_input
        from lightning_modules.decoding.translation import DecodingConfig

        options = {
            "method": "sample" if samples else "beam", "beam_size": beam_size, "n_best": n_best, "coverage_penalty": coverage_penalty,
            "beam_alpha": 0.6 if beam_alpha is None else beam_alpha, "seed": seed or 0,
            "alignments": alignments or replace_unknown, "aligned_step": aligned_step or "predicted",
            "precision": precision,
        }  # fmt: skip
        settings = validated(DecodingConfig, options, "options")
        wanted = translating.wanted(as_json, alignments, replace_unknown, dictionary)
        translated = translating.TranslatedLines(model, settings, wanted, max_length, partial(typer.echo, err=True))
        for lines in translated(line_groups(standard_input(), TRANSLATED_TOGETHER)):
            typer.echo("\n".join(lines).encode())


@app.command()
def generate(
    model: Annotated[Path, typer.Option(help="Folder of a language model, e.g. artifacts/base_model.")],
    prefix: Annotated[
        list[str],
        typer.Option(
            help="Folder of a prefix for it, e.g. artifacts/prefix_tuning/prefix. Or several, each NAME=DIR: every line then begins with "
            "the name of its prefix and a tab, and lines of all of them are written in one batch."
        ),
    ] = [],  # noqa: B006 - typer copies it
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest continuation.")] = 64,
    beam_size: Annotated[int, typer.Option(min=1, help="Beam width; 1 is greedy search.")] = 1,
    length_penalty: Annotated[
        float | None,
        typer.Option(
            show_default="1",
            help="Of a beam: hypotheses are ranked by log P / length ^ this: above 0 favours longer ones.",
        ),
    ] = None,
    samples: Annotated[
        bool, typer.Option("--sample", metavar="", help="Draw one sample a line instead of searching.")
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(show_default="1", help="Of --sample: below 1 sharpens the distribution.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(show_default="1", help="Of --sample: draw from the fewest tokens of this probability."),
    ] = None,
    seed: Annotated[int | None, typer.Option(show_default="0", help="Of --sample.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Most lines written together; no result depends on it.")] = 16,
) -> None:
    """Continue standard input, one prompt a line, with a language model; a prefix brings its own template for the line.

    Output comes as soon as there is input. A line that is too long, or names an unknown prefix, ends it with an error that names the
    line; the lines before it are written first.

    Example: `echo "Jesus wept." | gradus generate --model artifacts/base_model --prefix artifacts/prefix_tuning/prefix --beam-size 5`
    """
    from gradus.generating import ContinuedLines, named_prefixes
    from gradus.input_lines import line_groups, standard_input

    with taught_errors():
        if samples and beam_size > 1:
            raise InputError(f"--sample draws without a beam: leave out --beam-size {beam_size}.")
        drawing = {"temperature": temperature, "top_p": top_p, "seed": seed}
        given = {name: value for name, value in drawing.items() if value is not None}
        if given and not samples:
            raise InputError(f"--{next(iter(given)).replace('_', '-')} is for --sample: give both, or leave it out.")
        if length_penalty is not None and beam_size == 1:
            raise InputError("--length-penalty ranks hypotheses of a beam: give --beam-size, or leave it out.")
        settings = {
            "method": "sample" if samples else "beam", "beam_size": beam_size, "max_new_tokens": max_new_tokens,
            "length_penalty": 1.0 if length_penalty is None else length_penalty, **given,
        }  # fmt: skip
        continued = ContinuedLines(model, named_prefixes(prefix), settings, partial(typer.echo, err=True))
        for line in continued(line_groups(standard_input(), batch)):
            typer.echo(line.encode())


@app.command()
def rank(
    model: Annotated[
        list[Path],
        typer.Option(
            help="Folder of a reward model, e.g. artifacts/reward_models/paper; or of a translator, given several times for "
            "an ensemble, which scores by log P(response | prompt)."
        ),
    ],
) -> None:
    """Score responses: JSON Lines with `prompt` and `responses` in, the same with `rewards` and `order` (best first) out.

    A translator writes `log_probabilities` for `rewards`: this rescores phrase pairs, or the n-best lists of another system.

    Output comes as soon as there is input. A blank line gives a blank line. A line that is wrong, or longer than the model
    reads, ends it with an error that names the line; the lines before it are written first.

    Example: `echo '{"prompt": "Jesus wept.", "responses": ["Jesus was weeping.", "Jesus"]}' | gradus rank --model artifacts/reward_models/paper`
    """
    from gradus import using
    from gradus.input_lines import line_groups, standard_input

    with taught_errors():
        groups, warn = line_groups(standard_input(), RANKED_TOGETHER), partial(typer.echo, err=True)
        if using.is_translator(model[0]):
            scored = using.rescored(model, groups, warn)
        elif len(model) > 1:
            raise InputError("--model: several models are an ensemble of translators, and the first is a reward model.")
        else:
            scored = using.rewards(model[0], groups, warn)
        for line in scored:
            typer.echo(line.encode())


@app.command("evaluate-rankings")
def evaluate_rankings(
    file: Annotated[
        Path, typer.Argument(help="A collection's folder, or a file of rankings (see `gradus comparisons`).")
    ],
    model: Annotated[Path, typer.Option(help="Folder of a reward model, e.g. artifacts/reward_models/paper.")],
    format: Annotated[
        str, typer.Option(help="Format of a file; `gradus comparisons import --help` lists them.")
    ] = "auto",
) -> None:
    """Print as JSON how far a reward model agrees with rankings.

    Accuracy, log loss, calibration, Kendall's tau, accuracy by K and by rank distance, length bias, best of n; beside the
    labelers' agreement with each other.
    """
    from gradus import using

    with taught_errors():
        typer.echo(json.dumps(using.evaluation(model, file, format), indent=2, ensure_ascii=False))


@app.command()
def register(
    model: Annotated[
        Path,
        typer.Option(help="Folder of a reward model or a prefix, e.g. artifacts/reward_models/paper."),
    ],
    name: Annotated[
        str | None, typer.Option(show_default="reward_model, or prefix", help="Name in MLflow's model registry.")
    ] = None,
) -> None:
    """Put a reward model, or a prefix, into MLflow's registry, ready to be served.

    A prefix is stored alone; the server reads its base from where it was, or from GRADUS_BASE_MODEL.

    Then: `MLFLOW_TRACKING_URI=sqlite:///tracking/mlflow.db mlflow models serve -m models:/reward_model@candidate --env-manager local`
    """
    from gradus import registering

    with taught_errors():
        typer.echo(f"models:/{registering.register(model, name)}, alias candidate")


if __name__ == "__main__":
    app()
