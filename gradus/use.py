"""What `gradus use` does: params.yaml for a named experiment."""

from ruamel.yaml import YAML

from core.errors import InputError
from core.experiments import DEFAULT, FOLDER, PARAMS, has_other_values, rendered
from core.folders import finished_file
from data import mirror
from stages.framework.params import check_params


def use(name: str, force: bool) -> str:
    """Writes params.yaml for the experiment `name`; returns what to tell the user.

    Raises:
        InputError: there is no such experiment, it is wrong, or params.yaml has edits that no experiment has.
    """
    text = rendered(name)
    if not force and has_other_values():
        raise InputError(
            f"{PARAMS} has settings that no file of {FOLDER}/ gives. Keep them as an experiment of your own "
            f"(a file {FOLDER}/NAME.yaml with what differs from {DEFAULT}.yaml), or discard them: gradus use {name} --force."
        )
    check_params(YAML(typ="safe").load(text), str(FOLDER / f"{name}.yaml"))
    with finished_file(PARAMS) as partial:
        partial.write_text(text, encoding="utf-8")
    place = mirror.remember()
    note = f" Raw data: {place} (remembered in {mirror.REMEMBERED})." if place else ""
    return f"{PARAMS} now holds the experiment '{name}'.{note} Next: gradus run, or dvc repro."
