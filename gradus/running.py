"""What the commands `run` and `ui` do."""

import asyncio
import contextlib
import errno
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from core import tracking
from core.config import nearest
from core.errors import InputError
from flows.graph import plan
from flows.results import headlines, print_results

FLOWS = ("pipeline", "pretraining", "comparison_import", "reward_modeling", "prefix_tuning")
REPORT = Path("report/index.html")
HOST = "127.0.0.1"
UIS = "make ui  (MLflow on http://127.0.0.1:5000, Prefect on http://127.0.0.1:4200)"


def run(name: str) -> int:
    """Runs a flow in this process; returns the exit code. SIGTERM ends its stages as Ctrl-C does."""
    if name not in FLOWS:
        raise InputError(f"no flow '{name}' - {nearest(name, list(FLOWS))}")
    from stages.framework.params import load_params

    load_params()  # a wrong key shows now, not in the middle of the run
    graph, to_run = planned = plan()
    if not planned.of(name):  # Prefect and its server take longer to start than all of this
        print(
            f"{len(graph.upstream)} stages, {len(graph.upstream) - len(to_run)} up to date: {name} has nothing to run"
        )
        print_results(headlines(graph, sorted(graph.upstream.keys() - to_run)))
        return _done()
    flow = getattr(importlib.import_module("flows.pipeline"), name)
    # Only now: flows/__init__.py sets what Prefect reads when it is imported.
    from prefect.exceptions import TerminationSignal

    from flows.view import quiet_prefect

    quiet_prefect()
    print("Starting Prefect ...", flush=True)
    try:
        with _ended_by_signals(TerminationSignal):
            asyncio.run(flow())
    except TerminationSignal as ended:
        print(f"\n{name} was ended. The same command continues from there.", file=sys.stderr)
        return 128 + int(ended.signal)
    except InputError:
        raise
    except Exception as error:  # of a stage, of dvc, of Prefect
        print(
            f"\n{name} failed:\n{error}\n\nWhat had not failed is kept. Correct the cause and run the same command again.\n"
            f"Whole logs:  {UIS}",
            file=sys.stderr,
        )
        return 1
    return _done()


@contextlib.contextmanager
def _ended_by_signals(exception: Callable[[int], BaseException]) -> Iterator[None]:
    """SIGTERM raises `exception`, and so does Ctrl-C, which no other process gets.

    A terminal sends Ctrl-C to Prefect's temporary server as well, and without its server a flow does not end. A server that is
    started where SIGINT is blocked never gets it. Then this process gets it in a thread that was there before, or in one that waits.
    """

    def end(signum: int, _: object) -> None:
        if signum == signal.SIGTERM or not over.is_set():  # a second Ctrl-C does not disturb the first
            over.set()
            raise exception(signal.SIGTERM)

    def wait() -> None:
        signal.sigwait({signal.SIGINT})
        if not over.is_set():
            over.set()
            os.kill(os.getpid(), signal.SIGTERM)

    over, waiting = threading.Event(), threading.Thread(target=wait, daemon=True)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    handlers = {signum: signal.signal(signum, end) for signum in (signal.SIGINT, signal.SIGTERM)}
    waiting.start()
    try:
        yield
    finally:
        over.set()
        if waiting.is_alive() and waiting.ident:
            signal.pthread_kill(waiting.ident, signal.SIGINT)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _done() -> int:
    if REPORT.exists():
        print(f"\nReport: {REPORT.resolve()}")
    print(f"Runs:   {UIS}")
    return 0


def serve_uis(mlflow_port: int, prefect_port: int) -> int:
    """Runs both servers until one ends, Ctrl-C or SIGTERM.

    Raises:
        InputError: a port is in use: what answers there is another server.
    """
    for port, option in ((mlflow_port, "--mlflow-port"), (prefect_port, "--prefect-port")):
        if _in_use(port):
            raise InputError(
                f"port {port} of {HOST} is in use by another program. End that, or choose another port: {option} {port + 1}"
            )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a server that is left alone would run for ever
    tracking.experiment()  # makes or migrates the data base before a server opens it
    servers = {
        f"MLflow   http://{HOST}:{mlflow_port}": [
            "mlflow", "server", "--backend-store-uri", tracking.uri(), "--host", HOST, "--port", str(mlflow_port), "--workers", "1",
        ],
        f"Prefect  http://{HOST}:{prefect_port}": [
            "uvicorn", "--factory", "flows.server:create_app", "--host", HOST, "--port", str(prefect_port), "--log-level", "warning",
        ],
    }  # fmt: skip
    log = tracking.FOLDER / "ui.log"
    with open(log, "wb") as output:
        running = [
            subprocess.Popen([sys.executable, "-m", *command], stdout=output, stderr=output)
            for command in servers.values()
        ]
        try:
            for address, process in zip(servers, running, strict=True):
                print(
                    address if _answers(address.split()[-1], process) else f"{address}: did not start, see {log}",
                    flush=True,
                )
            print("Ctrl-C ends both.", flush=True)
            while all(p.poll() is None for p in running):
                time.sleep(0.5)
            return 1
        except KeyboardInterrupt:
            return 0
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()


def _in_use(port: int) -> bool:
    with socket.socket() as connection:
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a server that has just ended is not in the way
        try:
            connection.bind((HOST, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _answers(address: str, process: subprocess.Popen[bytes], seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return True
        except OSError:
            time.sleep(0.5)
    return False
