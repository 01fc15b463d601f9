"""What a stage records, e.g. `run.metrics(...)`: edit this to record more. (`core/recorder.py` sends it, `core/tracking.py` calls MLflow.)

It goes into a journal on disk. That is a folder: `events.jsonl`, a line for each call of `StageRun`, and copies of the artifacts.
It is removed when MLflow has all of it. So a stage loads no MLflow, and waits for no server before its end.
What a server did not get is sent the next time.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import psutil

from core import tracking
from core.config import dotted
from core.headlines import headline_metrics

EVENTS, FAILED = "events.jsonl", "failed"  # files of a journal; the second says why MLflow did not get it
LONGEST_WAIT = 60.0  # seconds that a stage waits at its end for MLflow to have everything

log = logging.getLogger("gradus")


class StageRun:
    """The MLflow run of one stage; every call is safe to make whether or not tracking works. Calls do nothing unless `tracked`."""

    def __init__(self, stage: str, tracked: bool = True) -> None:
        self.stage, self._journal = stage, Path()
        self._broken, self._told = not tracked, False
        self._attempt(self._start)

    def _start(self) -> None:
        folder = journals()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # for this user alone: settings may be anything
        self._journal = Path(tempfile.mkdtemp(prefix=f"{time.time_ns()}-{self.stage}-", dir=folder))
        parent = os.environ.get(tracking.PARENT_VARIABLE, "")
        above = next(iter(reversed(dvc_above())), None)
        process = above or psutil.Process()
        parent_process = above.parent() if above and parent else process
        self._write(
            "start",
            stage=self.stage,
            tags=tracking.origin_tags(),
            parent=parent,
            started_by="dvc repro" if above else "a stage alone",
            invocation=tracking.identity(process),
            # The recorder lives as long as more stages may come: with the flow, which started dvc, or with dvc.
            parent_process=tracking.identity(parent_process or process),
        )
        start_recorder()

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Settings of the stage, nested ones with dots. A value that is too long for MLflow is whole in `parameters.json`."""
        self._attempt(lambda: self._write("parameters", values=dict(dotted(values))))

    def metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Numbers at a step, nested ones with dots; other values are left out."""
        numbers = {k: float(v) for k, v in dotted(values) if isinstance(v, (int, float))}
        self._attempt(lambda: self._write("metrics", values=numbers, step=step))

    def summary(self, values: Mapping[str, Any]) -> None:
        """What the stage measured: its metrics, and the headlines of its parent run."""
        self.metrics(values)
        self._attempt(lambda: self._write("headlines", values=headline_metrics(self.stage, values)))

    def inputs(self, digests: Mapping[str, str]) -> None:
        """Data sets that the stage read: content digest by path."""
        self._attempt(lambda: self._write("inputs", digests=dict(digests)))

    def artifact(self, path: Path) -> None:
        """A small file, such as a plot or a summary."""
        self._attempt(lambda: self._write("artifact", path=str(self._copied(path))))

    def _copied(self, path: Path) -> Path:
        return Path(shutil.copy(path, tempfile.mkdtemp(dir=self._journal)))

    def finish(self, succeeded: bool) -> None:
        """Ends the run, and waits for the upload or its failure."""
        if self._journal.name:
            self._broken = False  # whatever went wrong before, this is worth a try
            self._attempt(lambda: (self._journal / FAILED).unlink(missing_ok=True))
            self._attempt(lambda: self._write("end", status="FINISHED" if succeeded else "FAILED"))
            self._attempt(self._wait)

    def _wait(self) -> None:
        began = next_check = time.monotonic()
        while self._journal.exists() and not (self._journal / FAILED).exists():
            if (now := time.monotonic()) > began + LONGEST_WAIT:
                raise TimeoutError(f"no answer for {LONGEST_WAIT:.0f} seconds")
            if now >= next_check:
                start_recorder()
                next_check = now + 1
            time.sleep(0.02)
        self._tell_failure()

    def _write(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, "time": tracking.time_ms(), **fields}, default=str)
        with open(self._journal / EVENTS, "a", encoding="utf-8") as events:
            events.write(line + "\n")
        self._tell_failure()

    def _tell_failure(self) -> None:
        if not self._told and (self._journal / FAILED).exists():
            self._told = True
            self._warn((self._journal / FAILED).read_text(encoding="utf-8"))

    def _attempt(self, call: Callable[[], Any]) -> None:
        if self._broken:
            return
        try:
            call()
        except Exception as error:  # a full disk, a recorder that cannot be started: the stage continues
            self._broken = True
            self._warn(f"{type(error).__name__}: {error}")

    def _warn(self, problem: str) -> None:
        log.warning(
            "tracking does not work: %s (%s). What is in %s is sent the next time.",
            problem[:200], tracking.uri(), self._journal.parent,
        )  # fmt: skip


def journals() -> Path:
    """The folder of the journals that the tracking server of this process has not got."""
    server = hashlib.blake2b(tracking.uri().encode(), digest_size=4).hexdigest()
    return tracking.FOLDER.resolve() / "unsent" / server


@contextlib.contextmanager
def only_recorder(folder: Path) -> Iterator[bool]:
    """Whether no other process records `folder`; none can while this context lasts."""
    with open(folder / "lock", "a") as lock:
        yield _locked(lock)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def start_recorder() -> None:
    """Starts the recorder unless it runs."""
    with only_recorder(journals()) as nobody_records:
        pass
    if nobody_records:
        code = Path(__file__).parents[1]
        path = os.pathsep.join([str(code), *filter(None, [os.environ.get("PYTHONPATH")])])
        with open(tracking.FOLDER / "recorder.log", "ab") as output:
            subprocess.Popen(
                [sys.executable, "-m", "core.recorder"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,  # a flow reads the stage's own until nobody has them open
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # it survives the end of the stage's process group
            )  # fmt: skip


def dvc_above() -> list[psutil.Process]:
    """The dvc processes that this process was started by, the nearest first; under a flow the last is the one that starts dvc for it."""
    names = {"dvc", "flows.repro"}
    return [p for p in psutil.Process().parents() if any(Path(part).name in names for part in _command(p)[:3])]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
