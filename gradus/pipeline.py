"""`gradus run`, `ui`, `use`, `new` and `experiments`: the pipeline, its web pages, its settings."""

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from core.errors import InputError
from gradus.errors import taught_errors


def run(
    flow: Annotated[
        str,
        typer.Argument(help="pipeline (all of it), pretraining, comparison_import, reward_modeling or prefix_tuning."),
    ] = "pipeline",
) -> None:
    """Run the pipeline, or a part of it, as a Prefect flow.

    Only stages run that are not up to date. Stages that do not need each other run at the same time (pipeline.slots in params.yaml).
    The flow uses the Prefect server of PREFECT_API_URL, or a temporary one. `dvc repro` does the same without Prefect.

    Example: `gradus run reward_modeling`
    """
    from gradus import running

    with taught_errors():
        raise typer.Exit(running.run(flow))


def ui(
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow UI.")] = 5000,
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect UI and API.")] = 4200,
) -> None:
    """Serve the MLflow and Prefect UIs on 127.0.0.1 until Ctrl-C."""
    from gradus import running

    with taught_errors():
        raise typer.Exit(running.serve_uis(mlflow_port, prefect_port))


Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting; may be given several times, e.g. --set comparisons.people.imports.0.source=mine.jsonl. The value is YAML.",
    ),
]


def use(
    experiment: Annotated[
        str | None, typer.Argument(help="Name of a file of experiments/, without .yaml. Left out: list them.")
    ] = None,
    changes: Changes = None,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Discard edits of params.yaml that are in no experiment.")
    ] = False,
) -> None:
    """Write params.yaml: the sections of an experiment.

    A variant that has a `matrix` becomes one for each of its cells. A data mirror named in GRADUS_DATA is remembered for later runs.
    `gradus use default` goes back to the default.

    Example: `GRADUS_DATA=/path/to/mirror gradus use multi30k && gradus run`
    """
    from core.experiments import listing

    with taught_errors():
        typer.echo(write_params(experiment, force, changes or []) if experiment else listing())


def experiments() -> None:
    """List the experiments: what each is about, and the sections that it runs."""
    from core.experiments import listing

    with taught_errors():
        typer.echo(listing())


def new(
    name: Annotated[str, typer.Argument(help="Name of the new experiment.")],
    source: Annotated[str, typer.Option("--from", help="The experiment to start from.")] = "default",
    changes: Changes = None,
) -> None:
    """Write experiments/NAME.yaml: another experiment with some settings changed.

    Example: `gradus new mine --from reward_from_rankings --set comparisons.people.imports.0.source=mine.jsonl`
    """
    from ruamel.yaml import YAML

    from core.experiments import FOLDER, changed, expand
    from core.folders import finished_file
    from stages.framework.params import check_params

    with taught_errors():
        path = FOLDER / f"{name}.yaml"
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise InputError(f"'{name}': letters, digits, _ and - expected: it is the name of a file of {FOLDER}/.")
        if path.exists():
            raise InputError(f"{path}: it exists. Choose another name, or edit it.")
        text = changed(source, changes or [])
        values = YAML(typ="safe").load(text)
        expand(values)
        check_params(values, str(path))
        with finished_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
        typer.echo(f"{path} is written. Next: gradus use {name}")


def write_params(experiment: str, force: bool, changes: Sequence[str] = ()) -> str:
    """Writes params.yaml for an experiment, with `changes` (KEY=VALUE); returns what to tell the user.

    Raises:
        InputError: there is no such experiment, it or a change is wrong, or params.yaml has edits that are in no experiment.
    """
    from ruamel.yaml import YAML

    from core.experiments import FOLDER, PARAMS, has_other_values, rendered
    from core.folders import finished_file
    from data import mirror
    from stages.framework.params import check_params

    text = rendered(experiment, changes)
    if not force and has_other_values():
        raise InputError(
            f"{PARAMS} has settings that no file of {FOLDER}/ gives. Keep them as an experiment of your own (copy it to "
            f"{FOLDER}/NAME.yaml), or discard them: gradus use {experiment} --force."
        )
    check_params(YAML(typ="safe").load(text), str(FOLDER / f"{experiment}.yaml"))
    with finished_file(PARAMS) as partial:
        partial.write_text(text, encoding="utf-8")
    folder = mirror.remember()
    note = f" Raw data: {folder} (remembered in {mirror.REMEMBERED})." if folder else ""
    return f"{PARAMS} now holds the experiment '{experiment}'.{note} Next: gradus run, or dvc repro."
