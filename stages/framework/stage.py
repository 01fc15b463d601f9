"""What all stages do alike: settings, tracking, an output that appears when it is finished, errors that teach."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core.errors import DivergedError, InputError
from core.folders import finished_folder
from core.process_setup import set_up_process
from core.processes import end_with, start_processes, this_process
from core.stage_run import StageRun, dvc_above
from stages.framework import layout
from stages.framework.dependencies import Dependencies, dependencies, lines
from stages.framework.params import Params, load_params
from stages.framework.warm_start import init_folder

SECONDS_BETWEEN_CHECKPOINTS = float(os.environ.get("GRADUS_CHECKPOINT_SECONDS", "30"))  # of every stage that trains
CHECKPOINTS_KEPT = max(
    1, int(os.environ.get("GRADUS_CHECKPOINTS_KEPT", "2"))
)  # of each training; an older one replaces a damaged one
OF_THE_SYSTEM = {  # errors that no code of this project can correct, and what a user can do
    errno.ENOSPC: "Free some space, and run it again: a training continues from its last checkpoint.",
    errno.EDQUOT: "Free some of your quota, and run it again: a training continues from its last checkpoint.",
    errno.EACCES: "Give yourself permission, and run it again.",
    errno.EROFS: "Run it in a folder that can be written to.",
}
EXIT_FAILED, EXIT_INPUT_ERROR = 1, 2
EXIT_TERMINATED = 143


class Stage:
    """A running stage: its parameters, its unfinished output folder, its MLflow run.

    `item` is the item of a stage that has items, "" elsewhere; `key` a hash of everything that dvc.yaml says the result depends on.
    """

    def __init__(self, name: str, item: str, params: Params, out: Path, run: StageRun, key: str) -> None:
        self.name, self.item, self.params, self.out, self.run, self.key = name, item, params, out, run, key
        self.when_done: list[Callable[[], None]] = []  # called when the output is in its place

    def write_json(self, name: str, values: Any) -> None:
        """Writes a file of the output."""
        (self.out / name).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def summarise(self, values: dict[str, Any]) -> None:
        """Writes what the stage measured, to its output and to tracking, and prints it."""
        self.write_json(layout.SUMMARY, values)
        self.run.summary(values)
        self.run.artifact(self.out / layout.SUMMARY)
        print(f"{self.name}: " + "  ".join(_facts(values)), flush=True)


@contextlib.contextmanager
def stage(
    name: str, out: Path, items: str | None = None, *, single: bool = False, in_processes: bool = False
) -> Iterator[Stage]:
    """Runs the body of the stage `name` of dvc.yaml, which makes the folder `out`.

    A stage with items (`foreach` in dvc.yaml) names the parameter whose keys are its `items`; which one it is, is the command line's
    first argument, and it makes the folder `out/ITEM`, or `out` where the section has a `single` line. The output appears only if the
    body ends well. An InputError (exit code 2) and a DivergedError (exit code 1) are printed without a traceback. The same stage runs
    once at a time: a second process waits.

    A result is recorded only if all it depends on is at the end what it was at the start: DVC records the settings and files that
    are there when a stage ends. If they differ, the stage fails, names them, and keeps its checkpoint for when the change is undone.

    Of several processes that share the work (`core/processes.py`) the first is the stage; what the others write, print and track
    goes nowhere. `in_processes` says that the stage can run so.
    """
    set_up_process()
    if in_processes:
        start_processes(name)
    for dvc in dvc_above()[:1]:  # what a stage makes for a dvc that was killed, nobody records
        end_with(dvc)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    run: StageRun | None = None
    succeeded, first = False, this_process().rank == 0
    full_name = name
    try:
        if this_process().world_size > 1 and not in_processes:
            raise InputError("this stage runs in one process: start it without torchrun.")
        params = load_params()
        item = _item(name, lines(params, items)) if items else ""
        full_name = f"{name}@{item}" if items else name
        out = out / item if items and not single else out
        started_from, earlier = dependencies(name, item, params), init_folder(name, item, params)
        with _only_one(full_name) if first else _silence():
            run = StageRun(full_name, tracked=first)
            run.parameters({"seed": params.seed, **started_from.settings})
            run.inputs(
                {
                    path: digest
                    for path, digest in started_from.digests.items()
                    if _is_data(Path(path)) or Path(path) == earlier
                }
            )
            out_folder = finished_folder(out, layout.WORK / "partial") if first else tempfile.TemporaryDirectory()
            with out_folder as folder:
                this = Stage(full_name, item, params, Path(folder), run, _key(started_from))
                yield this
                if first:
                    _check_unchanged(name, item, started_from)
            for call in this.when_done if first else []:
                call()
            succeeded = True
    except (InputError, DivergedError) as error:
        print(f"{full_name}: error: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_INPUT_ERROR if isinstance(error, InputError) else EXIT_FAILED)
    except OSError as error:
        if error.errno not in OF_THE_SYSTEM:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"{full_name}: error: {where}{error.strerror}. {OF_THE_SYSTEM[error.errno]}", file=sys.stderr, flush=True)
        sys.exit(EXIT_FAILED)
    except SystemExit as ended:  # Lightning answers SIGTERM with an exit that has no code
        sys.exit(ended.code or EXIT_TERMINATED)
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


def _key(started_from: Dependencies) -> str:
    text = json.dumps([started_from.settings, started_from.digests, version("torch")], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _check_unchanged(name: str, item: str, started_from: Dependencies) -> None:
    """Raises InputError when what the stage depends on is no longer what it started from."""
    try:
        differences = list(started_from.differences(dependencies(name, item, load_params())))
    except InputError as error:  # params.yaml is wrong by now
        differences = [str(error)]
    if differences:
        raise InputError(
            "changed while the stage ran, so its result is not recorded:\n"
            + "".join(f"  {difference}\n" for difference in differences)
            + "Run it again for the new state. If you undo the change first, a training continues from its checkpoint."
        )


def _is_data(path: Path) -> bool:
    """Whether a dependency is data; the file of a stage that reads nothing from outside is not."""
    if path.is_relative_to(layout.INPUTS):
        return path.read_text(encoding="utf-8") != layout.NOTHING
    return path.parts[0] in (str(layout.ARTIFACTS), str(layout.LABELED))


def _item(name: str, known: Any) -> str:
    item = sys.argv[1] if len(sys.argv) > 1 else ""
    if item not in known:
        raise InputError(f"no item {item!r}: python -m stages.{name} ITEM, with one of {', '.join(known)}")
    return item


@contextlib.contextmanager
def _only_one(name: str) -> Iterator[None]:
    """Holds the stage's lock. A dvc that was killed may have left its stage running: its output must not mix with ours."""
    path = layout.WORK / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            print(f"{name}: waits for process {lock.read().strip() or '?'}, which is running this stage", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _facts(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, fact in values.items():
        if isinstance(fact, dict):
            yield from _facts(fact, f"{prefix}{key}.")
        elif isinstance(fact, float):
            yield f"{prefix}{key} {fact:,.4g}"
        elif isinstance(fact, int):
            yield f"{prefix}{key} {fact:,}"
