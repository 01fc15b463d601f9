"""What the commands `run` and `ui` do."""

import asyncio
import importlib
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from core import tracking
from core.config import nearest
from core.errors import InputError

FLOWS = ("pipeline", "pretraining", "comparison_import", "reward_modeling", "prefix_tuning")
REPORT = Path("artifacts/report/index.html")
HOST = "127.0.0.1"


def run(name: str) -> int:
    """Runs a flow in this process; returns the exit code. SIGTERM ends its stages as Ctrl-C does."""
    if name not in FLOWS:
        raise InputError(f"no flow '{name}' - {nearest(name, list(FLOWS))}")
    from stages.framework.params import load_params

    load_params()  # a wrong key shows now, not in the middle of the run
    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    # Only now: flows/__init__.py sets what Prefect reads when it is imported.
    from prefect.exceptions import TerminationSignal

    try:
        state = asyncio.run(flow(return_state=True))
    except TerminationSignal as ended:
        print(f"\n{name} was ended (signal {ended.signal}). The same command goes on from there.", file=sys.stderr)
        return 128 + int(ended.signal)
    if not state.is_completed():
        print(
            f"\n{name} failed:\n{state.message}\n\nWhat had not failed is kept; mend the cause and run the same command again.",
            file=sys.stderr,
        )
        return 1
    if REPORT.exists():
        print(f"\nReport: {REPORT.resolve()}")
    print("Runs:   make ui  (MLflow on http://127.0.0.1:5000, Prefect on http://127.0.0.1:4200)")
    return 0


def serve_uis(mlflow_port: int, prefect_port: int) -> int:
    """Runs both servers until one ends or Ctrl-C."""
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


def _answers(address: str, process: subprocess.Popen[bytes], seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return True
        except OSError:
            time.sleep(0.5)
    return False
