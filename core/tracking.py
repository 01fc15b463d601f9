"""What calls MLflow: runs, metrics, tags. (A stage's own recording is in `core/stage_run.py`; `core/recorder.py` sends it.)

There is a parent run per pipeline run, and a child per stage.
A flow makes the parent and hands it to its stages through `PARENT_VARIABLE`. Under plain `dvc repro` the first stage has it made, and
the other stages of the same `dvc` process share it. The parent has the headline metrics of all its stages and a note with their table.

The client takes two seconds of a CPU to load. So stages leave all calls to one process, the recorder.
"""

import contextlib
import functools
import hashlib
import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil

from core.headlines import markdown, run_name

# For MLflow's client, which reads the first two when it is imported: no telemetry, no minutes of retries against a server that is gone.
_CLIENT_VARIABLES = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_OF_A_RUN = (
    "params.yaml",
    "dvc.lock",
)  # they say what ran, and differ from the commit's without being changes of the code
_EXCLUDED = [f":(exclude){name}" for name in _OF_A_RUN]
PARENT_VARIABLE = "GRADUS_PARENT_RUN"
EXPERIMENT = "gradus"
FOLDER = Path("tracking")
# What MLflow takes at most: parameters and metrics of one call, characters of a parameter's value.
PARAMETERS_PER_CALL, METRICS_PER_CALL, LONGEST_VALUE = 100, 1000, 6000
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on training runs, not on GenAI traces

log = logging.getLogger("gradus")


def uri() -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite file of this project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{FOLDER.resolve() / 'mlflow.db'}"


@functools.cache
def client() -> Any:
    """The MLflow client of `uri()`. Call it before anything else imports `mlflow`: it sets what MLflow reads then."""
    for name, value in _CLIENT_VARIABLES.items():
        os.environ.setdefault(name, value)
    import mlflow

    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    FOLDER.mkdir(exist_ok=True)
    return mlflow.MlflowClient(tracking_uri=uri())


def experiment() -> str:
    """The id of the experiment that holds all runs; made at first use."""
    experiment = client().get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        location = (FOLDER / "artifacts").resolve().as_uri() if uri().startswith("sqlite") else None
        with contextlib.suppress(Exception):  # another process may make it at the same moment
            client().create_experiment(EXPERIMENT, artifact_location=location, tags=_KIND)
        experiment = client().get_experiment_by_name(EXPERIMENT)
    return str(experiment.experiment_id)


def start_parent(started_by: str, invocation: str, tags: Mapping[str, str] | None = None) -> str:
    """A new parent run, named EXPERIMENT-COMMIT-DATE. Marks runs of dead processes first.

    Args:
        started_by: what a reader of the run's note is told, such as "dvc repro".
        invocation: which flow run or dvc process it belongs to.
        tags: its `origin_tags`; by default those of this process.
    """
    mark_killed()
    origin = tags or origin_tags()
    tags = {**origin, "gradus.invocation": invocation, "gradus.started_by": started_by}
    name = run_name(origin["mlflow.source.git.commit"])
    return str(client().create_run(experiment(), run_name=name, tags=tags).info.run_id)


def finish_parent(run_id: str, succeeded: bool | None = None, up_to_date: Collection[str] = ()) -> None:
    """Ends a parent run, with a note: its headline metrics as tables, and what became of its stages.

    Args:
        succeeded: None: if none of its stages failed or was killed.
        up_to_date: stages that did not have to run.
    """
    children = client().search_runs([experiment()], f"tags.`mlflow.parentRunId` = '{run_id}'", max_results=1000)
    ended: dict[str, list[str]] = {}
    for child in children:
        # Of a flow that is ended from outside, stages end at this moment.
        is_killed = child.info.status == "RUNNING" and (succeeded is False or _is_dead(child))
        status = "KILLED" if is_killed else child.info.status
        ended.setdefault(status, []).append(child.info.run_name)
    run = client().get_run(run_id)
    stages = {"ran": ended.get("FINISHED", []), "failed": ended.get("FAILED", []), "killed": ended.get("KILLED", [])}
    lines = [
        f"{what}: {', '.join(sorted(names))}" for what, names in {**stages, "up to date": up_to_date}.items() if names
    ]
    note = [
        f"Started by {run.data.tags.get('gradus.started_by', '?')}.",
        markdown(run.data.metrics),
        "  \n".join(lines),
    ]
    client().set_tag(run_id, "mlflow.note.content", "\n\n".join(filter(None, note)))
    ended_well = not stages["failed"] and not stages["killed"] if succeeded is None else succeeded
    client().set_terminated(run_id, "FINISHED" if ended_well else "FAILED")


def log_metrics(run_id: str, values: Mapping[str, float]) -> None:
    """Numbers that a run has once, such as the headline metrics of a parent run."""
    log_points(run_id, [Point(name, value, time_ms(), 0) for name, value in values.items()])


class Point(NamedTuple):
    """A metric's value at a step."""

    name: str
    value: float
    time: int  # in milliseconds
    step: int


def log_points(run_id: str, points: Iterable[Point]) -> None:
    """Gives a run values of metrics, many in one call."""
    from mlflow.entities import Metric

    metrics = [Metric(_allowed(p.name), p.value, p.time, p.step) for p in points]
    for batch in batches(metrics, METRICS_PER_CALL):
        client().log_batch(run_id, metrics=batch)


def mark_killed() -> None:
    """Runs of this machine that are RUNNING though their process is gone become KILLED."""
    for run in client().search_runs([experiment()], "attributes.status = 'RUNNING'"):
        if _is_dead(run):
            client().set_terminated(run.info.run_id, "KILLED")


def _is_dead(run: Any) -> bool:
    """Whether a run is RUNNING though its process, one of this machine, is gone."""
    tags = run.data.tags
    here = tags.get("gradus.host") == socket.gethostname()
    return bool(run.info.status == "RUNNING" and here and not is_alive(tags.get("gradus.process", "")))


T = TypeVar("T")


def safely(call: Callable[[], T], default: T) -> T:
    """What `call` returns, or `default` with a warning if tracking does not work: a run does not stop for that."""
    try:
        return call()
    except Exception as error:  # whatever the tracking server or its client does
        log.warning("tracking does not work: %s: %s (%s)", type(error).__name__, str(error)[:200], uri())
        return default


def identity(process: psutil.Process) -> str:
    """Which process this is, even after another one has its number, or the clock was set."""
    stat = Path(f"/proc/{process.pid}/stat")
    if stat.exists():  # Linux: ticks since the machine started, the 22nd value; the 2nd is a name in brackets
        return f"{process.pid}-{stat.read_text().rpartition(')')[2].split()[19]}"
    return f"{process.pid}-{process.create_time():.0f}"


def is_alive(process: str) -> bool:
    """Whether the process of an `identity` of this machine still runs."""
    try:
        running = psutil.Process(int(process.partition("-")[0]))
        return running.status() != psutil.STATUS_ZOMBIE and identity(running) == process
    except (psutil.Error, OSError, ValueError):
        return False


def origin_tags() -> dict[str, str]:
    """Where a run comes from: user, commit, state of dvc.lock, machine, and this process, with which it lives."""
    return {
        "mlflow.user": os.environ.get("USER", "unknown"),
        "mlflow.source.name": "gradus",
        "mlflow.source.git.commit": _git_commit(),
        **{f"gradus.{name.replace('.', '_')}": _md5(Path(name)) for name in _OF_A_RUN},
        "gradus.host": socket.gethostname(),
        "gradus.process": identity(psutil.Process()),
    }


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() if file.exists() else "none"


@functools.cache
def _git_commit() -> str:
    """The commit that is checked out, with "+changes" where files differ from it, apart from those that a run has by itself."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

    return (git("rev-parse", "HEAD") or "none") + (
        "+changes" if git("status", "--porcelain", "--untracked-files=no", "--", ".", *_EXCLUDED) else ""
    )


def _allowed(name: str) -> str:
    """A metric's name with what MLflow refuses replaced."""
    return re.sub(r"[^\w\-. /:]", "_", name)


def batches(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`values` in parts of at most `size`."""
    return (values[i : i + size] for i in range(0, len(values), size))


def time_ms() -> int:
    """The time as MLflow wants it."""
    return int(time.time() * 1000)
