"""dvc for the stages of a flow, loaded once: loading it takes longer than a small stage.

A flow starts `python -m flows.repro` and asks it for one stage after the other. Each runs in a fork of that process.
"""

import asyncio
import contextlib
import importlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from flows.graph import environment

if TYPE_CHECKING:
    from dvc.repo import Repo

SECONDS_BETWEEN_TRIES = 1.0
CLOCK_SECONDS = 2.0  # a process' start is known to a hundredth of a second, and the clock may have been set
LOADED = ("dvc.repo.reproduce", "dvc.stage.run", "dvc.dvcfile")
REQUEST_BYTES = 2**16
GOODBYE = b"goodbye"  # a flow that closes the channel without it was killed


class StageProcess:
    """`dvc repro --single-item` of one stage: a process that leads a session of its own."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader, status: asyncio.StreamReader) -> None:
        self.pid, self.stdout, self._status = pid, stdout, status  # `stdout` has its errors, too
        self.returncode: int | None = None

    async def wait(self) -> int:
        """The exit code; -9 where the process was killed before it could tell."""
        if self.returncode is None:
            code = await self._status.readline()
            self.returncode = int(code) if code else -signal.SIGKILL
        return self.returncode


class Repro:
    """The process that runs dvc for one flow run. It starts with the first stage and ends with `close`, or with the flow."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def start(self, stage: str, variables: dict[str, str]) -> StageProcess:
        """Starts dvc for a stage, with `variables` in its environment.

        Raises:
            RuntimeError: the process that starts it has ended.
        """
        stdout, stdout_end = await _pipe()
        status, status_end = await _pipe()
        try:
            async with self._one_at_a_time:
                request = json.dumps({"stage": stage, "variables": variables}).encode()
                socket.send_fds(self._connected(), [request], [stdout_end, status_end])
                os.close(status_end)
                status_end = -1
                pid = await status.readline()
        except OSError as error:
            raise RuntimeError(f"{' '.join(_COMMAND)} cannot be asked: {error}") from error
        finally:
            for end in (stdout_end, status_end):
                if end >= 0:
                    os.close(end)
        if not pid:
            raise RuntimeError(f"{' '.join(_COMMAND)} has ended")
        return StageProcess(int(pid), stdout, status)

    def close(self) -> None:
        """Ends the process that starts stages, and those that still run."""
        if self._server:
            with contextlib.suppress(OSError):  # it was killed
                self._channel.send(GOODBYE)
            self._channel.close()
            self._server.wait()

    def _connected(self) -> socket.socket:
        if not self._server:
            self._channel, other_end = socket.socketpair()
            with other_end:
                # A session of its own: Ctrl-C in a terminal is for the flow, which ends its stages.
                self._server = subprocess.Popen(
                    _COMMAND, stdin=other_end.fileno(), env=environment(PYTHONPATH=_PATH), start_new_session=True
                )
        return self._channel


_COMMAND = [sys.executable, "-m", "flows.repro"]
_PATH = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])


async def _pipe() -> tuple[asyncio.StreamReader, int]:
    """A pipe: what reads it, and the end to write to."""
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
    )
    return reader, write_end


def main() -> None:
    """Loads dvc; then forks for each request on standard input, until no flow has its other end open.

    A flow that was killed leaves its stages and its temporary Prefect server running: they are ended for it.
    """
    channel, flow = socket.socket(fileno=0), psutil.Process(os.getppid())
    stages: list[int] = []
    others: list[psutil.Process] = []
    for module in LOADED:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, lambda *_: _forget_ended())
    while True:
        request, ends, _, _ = socket.recv_fds(channel, REQUEST_BYTES, 2)
        if request in (b"", GOODBYE):
            break
        with contextlib.suppress(psutil.Error):
            others = [process for process in flow.children() if process.pid != os.getpid()]
        pid = os.fork()
        if pid == 0:
            channel.close()
            _run(json.loads(request), *ends)
        stages.append(pid)
        for end in ends:
            os.close(end)
    for pid in stages:  # of a flow that ended by itself none is left
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            if not os.waitpid(pid, os.WNOHANG)[0]:
                os.killpg(pid, signal.SIGTERM)
    for process in others if request != GOODBYE else []:
        with contextlib.suppress(psutil.Error):
            process.terminate()


def _forget_ended() -> None:
    """Leaves no zombies: a stage's process tells the flow itself how it ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _run(request: dict[str, Any], output: int, status: int) -> None:
    """Runs one stage in this process, and ends it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for target in (sys.stdout, sys.stderr):
        os.dup2(output, target.fileno())
    os.close(output)
    os.write(status, f"{os.getpid()}\n".encode())
    os.environ.update(request["variables"])
    code = 1
    try:
        code = _reproduce(request["stage"])
    finally:
        os.write(status, f"{code}\n".encode())
        sys.stdout.flush()
        os._exit(code)


def _reproduce(stage: str) -> int:
    """Runs a stage if dvc finds it changed; returns the exit code. What dvc cannot do is said in its own words.

    Where another dvc works on the same files, it waits, and says for whom.
    """
    from dvc.exceptions import DvcException, ReproductionError
    from dvc.lock import LockError
    from dvc.logger import set_loggers_level
    from dvc.repo import Repo
    from dvc.stage.exceptions import StageCmdFailedError

    sys.argv = ["dvc", "repro", stage]  # what another dvc is told of this one
    waits_for = ""
    with set_loggers_level(logging.CRITICAL):
        while True:
            try:
                with Repo(_wait_for_lock=True) as repo:
                    forget_reused_processes(repo)
                    repo.reproduce(stage, single_item=True)
                return 0
            except Exception as error:
                cause = error.__cause__ if isinstance(error, ReproductionError) and error.__cause__ else error
                if isinstance(cause, StageCmdFailedError):  # the stage has said why
                    return 1
                if not isinstance(cause, LockError):
                    kind = "" if isinstance(cause, (DvcException, OSError)) else f"{type(cause).__name__}: "
                    print(f"{stage}: dvc: {kind}{cause}", flush=True)
                    return 1
                if (busy := " ".join(str(cause).partition("\n\n")[0].split())) != waits_for:
                    print(f"{stage}: waits: {busy}", flush=True)
                    waits_for = busy
                time.sleep(SECONDS_BETWEEN_TRIES)


def forget_reused_processes(repo: "Repo") -> None:
    """Removes dvc's notes of processes that are gone, though another process has the number of one of them by now.

    dvc itself asks only whether a process of that number exists, and would wait for it for ever. A dvc that is killed while it writes
    the notes leaves an empty file, which dvc cannot read.
    """
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK, _edit_rwlock

    path, hardlink = Path(repo.tmp_dir, RWLOCK_FILE), repo.config["core"].get("hardlink_lock", False)
    with make_lock(str(path.with_name(RWLOCK_LOCK)), tmp_dir=repo.tmp_dir, hardlink_lock=hardlink):  # nobody writes now
        if path.exists() and not path.stat().st_size:
            path.unlink()
    if not path.exists():
        return
    with _edit_rwlock(repo.tmp_dir, repo.fs, hardlink) as notes:
        written = path.stat().st_mtime

        def is_current(note: dict[str, Any]) -> bool:
            try:
                return psutil.Process(note["pid"]).create_time() <= written + CLOCK_SECONDS
            except psutil.NoSuchProcess:
                return False

        for file, note in list(notes["write"].items()):
            if not is_current(note):
                del notes["write"][file]
        for file, several in list(notes["read"].items()):
            notes["read"][file] = [note for note in several if is_current(note)]


if __name__ == "__main__":
    main()
