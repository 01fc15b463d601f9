"""What all stages do alike: settings, tracking, an output that appears when it is finished, errors that teach."""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.folders import content_hash, finished_folder
from gradus.tracking import StageRun
from stages import layout
from stages.params import Params, load_params

EXIT_INPUT_ERROR = 2


class Stage:
    """A running stage: its parameters, its unfinished output folder, its MLflow run."""

    def __init__(self, name: str, params: Params, out: Path, run: StageRun) -> None:
        self.name, self.params, self.out, self.run = name, params, out, run

    def read(self, *inputs: Path) -> None:
        """Declares what the stage reads; the content goes to tracking."""
        self.run.inputs({str(path): content_hash(path) for path in inputs})

    def write_json(self, name: str, values: Any) -> None:
        """Writes a file of the output."""
        (self.out / name).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def summarise(self, values: dict[str, Any]) -> None:
        """Writes what the stage measured, to its output and to tracking, and prints it."""
        self.write_json(layout.SUMMARY, values)
        self.run.metrics(values)
        self.run.artifact(self.out / layout.SUMMARY)
        print(f"{self.name}: " + "  ".join(_facts(values)), flush=True)


@contextlib.contextmanager
def stage(name: str, out: Path, *sections: str) -> Iterator[Stage]:
    """Runs the body of a stage that makes the folder `out` from the given sections of params.yaml.

    `out` appears only if the body ends well. An InputError is printed without a traceback; exit code 2.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    run: StageRun | None = None
    succeeded = False
    try:
        params = load_params()
        run = StageRun(name)
        run.parameters({"seed": params.seed, **{s: _section(params, s) for s in sections}})
        with finished_folder(out, beside=layout.WORK / "partial") as folder:
            yield Stage(name, params, folder, run)
        succeeded = True
    except InputError as error:
        print(f"{name}: error: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_INPUT_ERROR)
    finally:
        if run:
            run.finish(succeeded)


def read_json(path: Path) -> Any:
    """A JSON file that another stage wrote. Raises InputError when it is missing."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file. Run the stage that makes it first: dvc repro, or gradus run."
        ) from None


def item(known: Any) -> str:
    """The item of a matrix stage, given as the first argument: `python -m stages.pretraining luong`."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in known:
        print(f"usage: python -m stages.{Path(sys.argv[0]).stem} ITEM - one of {', '.join(known)}", file=sys.stderr)
        sys.exit(EXIT_INPUT_ERROR)
    return name


def threads() -> int:
    """Threads this stage may use: what its scheduler gave it, else all cores."""
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def _section(params: Params, path: str) -> Any:
    value: Any = params
    for part in path.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _facts(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _facts(value, f"{prefix}{key}.")
        elif isinstance(value, float):
            yield f"{prefix}{key} {value:,.4g}"
        elif isinstance(value, int):
            yield f"{prefix}{key} {value:,}"
