"""MLflow: a parent run per pipeline run, a child per stage.

A flow makes the parent and hands it to its stages through `PARENT_VARIABLE`. Under plain `dvc repro` the first stage makes
it, and the other stages of the same `dvc` process find it. The parent has the headline metrics of all its stages and a note with
their table. A tracking server that does not answer never stops a training: it is reported once, and the stage continues.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from core.headlines import headline_metrics, markdown, run_name

# Before the client is imported: no telemetry, and no minutes of retries against a server that is gone.
for _variable, _value in {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}.items():
    os.environ.setdefault(_variable, _value)

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
    """The MLflow client of `uri()`."""
    import mlflow

    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    FOLDER.mkdir(exist_ok=True)
    return mlflow.MlflowClient(tracking_uri=uri())


def experiment() -> str:
    """The id of the experiment that holds all runs; made at first use."""
    found = client().get_experiment_by_name(EXPERIMENT)
    if found is None:
        location = (FOLDER / "artifacts").resolve().as_uri() if uri().startswith("sqlite") else None
        with contextlib.suppress(Exception):  # another process may make it at the same moment
            client().create_experiment(EXPERIMENT, artifact_location=location, tags=_KIND)
        found = client().get_experiment_by_name(EXPERIMENT)
    return str(found.experiment_id)


def start_parent(started_by: str, invocation: str, process: psutil.Process | None = None) -> str:
    """A new parent run, named EXPERIMENT-COMMIT-DATE. Marks runs of dead processes first.

    Args:
        started_by: what a reader of the run's note is told, such as "dvc repro".
        invocation: which flow run or dvc process it belongs to.
        process: the run counts as alive while this process is; this one by default.
    """
    mark_killed()
    tags = {**_origin_tags(process), "gradus.invocation": invocation, "gradus.started_by": started_by}
    return str(client().create_run(experiment(), run_name=run_name(_git_commit()), tags=tags).info.run_id)


def finish(run_id: str, succeeded: bool) -> None:
    """Ends a run."""
    client().set_terminated(run_id, "FINISHED" if succeeded else "FAILED")


def finish_parent(run_id: str, succeeded: bool | None = None, up_to_date: Collection[str] = ()) -> None:
    """Ends a parent run, with a note: its headline metrics as tables, and what became of its stages.

    Args:
        succeeded: None: if none of its stages failed or was killed.
        up_to_date: stages that did not have to run.
    """
    children = client().search_runs([experiment()], f"tags.`mlflow.parentRunId` = '{run_id}'", max_results=1000)
    ended: dict[str, list[str]] = {}
    for child in children:
        ended.setdefault(child.info.status, []).append(child.info.run_name)
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
    finish(run_id, not stages["failed"] and not stages["killed"] if succeeded is None else succeeded)


def log_headlines(run_id: str, stage: str, summary: Mapping[str, Any]) -> None:
    """Gives a parent run the headline metrics of one of its stages."""
    log_metrics(run_id, headline_metrics(stage, summary))


def log_metrics(run_id: str, values: Mapping[str, Any], step: int = 0) -> None:
    """Numbers at a step, nested ones with dots; other values are left out."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    flat = [Metric(_allowed(k), float(v), now, step) for k, v in _flatten(values) if isinstance(v, (int, float))]
    for metrics in _batches(flat, METRICS_PER_CALL):
        client().log_batch(run_id, metrics=metrics)


def mark_killed() -> None:
    """Runs of this machine that are RUNNING though their process is gone become KILLED."""
    for run in client().search_runs([experiment()], "attributes.status = 'RUNNING'"):
        tags = run.data.tags
        if tags.get("gradus.host") == socket.gethostname() and not _alive(tags.get("gradus.process", "")):
            client().set_terminated(run.info.run_id, "KILLED")


T = TypeVar("T")


def safely(call: Callable[[], T], default: T) -> T:
    """What `call` returns, or `default` with a warning if tracking does not work: a run does not stop for that."""
    try:
        return call()
    except Exception as error:  # whatever the tracking server or its client does
        log.warning("tracking does not work: %s: %s (%s)", type(error).__name__, str(error)[:200], uri())
        return default


class StageRun:
    """The MLflow run of one stage; every call is safe to make whether or not tracking works. Calls do nothing unless `tracked`."""

    def __init__(self, stage: str, tracked: bool = True) -> None:
        self.stage, self.run_id, self.parent, self.owns_parent = stage, "", "", False
        self._broken = not tracked
        self._attempt(self._start)

    def _start(self) -> None:
        self.parent = os.environ.get(PARENT_VARIABLE, "")
        if not self.parent:
            self.parent, self.owns_parent = _parent_of_invocation(), True
        tags = {
            **_origin_tags(),
            "mlflow.parentRunId": self.parent,
            "gradus.stage": self.stage,
            "gradus.attempt": str(1 + _unfinished(self.stage)),
        }
        self.run_id = client().create_run(experiment(), run_name=self.stage, tags=tags).info.run_id

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Settings of the stage, nested ones with dots. A value that is too long for MLflow is whole in `parameters.json`."""
        self._attempt(lambda: self._log_parameters(dict(_flatten(values))))

    def _log_parameters(self, values: dict[str, Any]) -> None:
        from mlflow.entities import Param

        whole = " ... (whole in the artifact parameters.json)"
        texts = {name: str(value) for name, value in values.items()}
        short = {
            name: text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - len(whole)] + whole
            for name, text in texts.items()
        }
        for params in _batches([Param(name, text) for name, text in short.items()], PARAMETERS_PER_CALL):
            client().log_batch(self.run_id, params=params)
        if short != texts:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "parameters.json"
                path.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")
                client().log_artifact(self.run_id, str(path))

    def metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Numbers at a step; other values are left out."""
        self._attempt(lambda: log_metrics(self.run_id, values, step))

    def summary(self, values: Mapping[str, Any]) -> None:
        """What the stage measured: its metrics, and the headlines of its parent run."""
        self.metrics(values)
        self._attempt(lambda: log_headlines(self.parent, self.stage, values))

    def inputs(self, digests: Mapping[str, str]) -> None:
        """Data sets that the stage read: content digest by path."""
        from mlflow.entities import Dataset, DatasetInput
        from mlflow.exceptions import MlflowException

        rows = [DatasetInput(Dataset(name, digest[:32], "local", name), []) for name, digest in digests.items()]

        def log() -> None:
            for known in range(len(rows) + 1):
                try:
                    return client().log_inputs(self.run_id, datasets=rows)
                except MlflowException as error:
                    # A stage beside this one was the first to log one of them: now it is known. A server that is gone is not asked again.
                    if error.error_code != "BAD_REQUEST" or known == len(rows):
                        raise

        self._attempt(log)

    def artifact(self, path: Path) -> None:
        """A small file, such as a plot or a summary."""
        self._attempt(lambda: client().log_artifact(self.run_id, str(path)))

    def finish(self, succeeded: bool) -> None:
        """Ends the run, and the parent with it if no flow looks after that."""
        if self.run_id:
            self._broken = False  # whatever went wrong before, this is worth a try
            self._attempt(lambda: finish(self.run_id, succeeded))
            if self.owns_parent:
                self._attempt(lambda: finish_parent(self.parent))

    def _attempt(self, call: Callable[[], Any]) -> None:
        if self._broken:
            return
        try:
            call()
        except Exception as error:  # whatever the tracking server or its client does, training goes on
            self._broken = True
            log.warning("tracking is off for this stage: %s: %s (%s)", type(error).__name__, str(error)[:200], uri())


def _unfinished(stage: str) -> int:
    """How many runs of a stage have failed or been killed since it last finished."""
    runs = client().search_runs(
        [experiment()], f"tags.`gradus.stage` = '{stage}'", order_by=["attributes.start_time DESC"], max_results=100
    )
    statuses = [run.info.status for run in runs]
    return statuses.index("FINISHED") if "FINISHED" in statuses else len(statuses)


def _parent_of_invocation() -> str:
    """The parent run of the dvc process this stage runs under (or of this process alone), made if it is the first stage."""
    me = psutil.Process()
    above = [p for p in me.parents() if any(Path(part).name == "dvc" for part in _command(p)[:3])]
    process = above[-1] if above else me
    invocation = _identity(process)
    known = client().search_runs([experiment()], f"tags.`gradus.invocation` = '{invocation}'", max_results=1)
    if known:
        parent = str(known[0].info.run_id)
        client().update_run(parent, status="RUNNING")
        return parent
    return start_parent("dvc repro" if above else "a stage alone", invocation, process)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _identity(process: psutil.Process) -> str:
    return f"{process.pid}-{process.create_time():.0f}"


def _alive(identity: str) -> bool:
    pid, _, started = identity.partition("-")
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" == started
    except (psutil.Error, ValueError):
        return False


def _origin_tags(process: psutil.Process | None = None) -> dict[str, str]:
    lock = Path("dvc.lock")
    return {
        "mlflow.user": os.environ.get("USER", "unknown"),
        "mlflow.source.name": "gradus",
        "mlflow.source.git.commit": _git_commit(),
        "gradus.dvc_lock": hashlib.md5(lock.read_bytes(), usedforsecurity=False).hexdigest()
        if lock.exists()
        else "none",
        "gradus.host": socket.gethostname(),
        "gradus.process": _identity(process or psutil.Process()),
    }


@functools.cache
def _git_commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

    return (git("rev-parse", "HEAD") or "none") + (
        "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    )


def _allowed(name: str) -> str:
    """A metric's name with what MLflow refuses replaced."""
    return re.sub(r"[^\w\-. /:]", "_", name)


def _batches(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[i : i + size] for i in range(0, len(values), size))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
