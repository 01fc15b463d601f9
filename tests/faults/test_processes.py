"""No process is left alone when what started it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.project import PROJECT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT)}


def test_a_stage_ends_when_its_dvc_was_killed(tmp_path: Path) -> None:
    """The dvc here is a program of this name that starts a stage's process through a shell, as dvc does."""
    stage = (
        "import time; from core.processes import end_with; from core.stage_run import dvc_above\n"
        "for dvc in dvc_above()[:1]: end_with(dvc)\n"
        "print('guarded', flush=True); time.sleep(60)"
    )
    (tmp_path / "stage.py").write_text(stage, encoding="utf-8")
    (tmp_path / "dvc").write_text(
        f"import subprocess; subprocess.run('{sys.executable} stage.py; true', shell=True)", encoding="utf-8"
    )
    dvc = subprocess.Popen(
        [sys.executable, str(tmp_path / "dvc")], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert dvc.stdout
    assert dvc.stdout.readline() == "guarded\n"
    (running,) = [p for p in psutil.Process(dvc.pid).children(recursive=True) if "stage.py" in p.cmdline()[-1:]]
    dvc.kill()
    dvc.wait()
    assert psutil.wait_procs([running], timeout=10)[1] == []


FLOW = """
import asyncio, json, subprocess, sys
from flows.repro import Repro

async def main():
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])  # in the place of Prefect's temporary server
    repro = Repro()
    process = await repro.start("sleeps", {})
    line = await process.stdout.readline()
    assert line.strip() == b"asleep", line
    print(json.dumps([server.pid, process.pid]), flush=True)
    await process.wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_flow_that_is_killed_leaves_neither_stages_nor_its_server(tmp_path: Path, signum: signal.Signals) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    sleeps = "python -c \"import time; print('asleep', flush=True); time.sleep(60)\""
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"sleeps": {"cmd": sleeps}}}), encoding="utf-8")
    flow = subprocess.Popen(
        [sys.executable, "-c", FLOW], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert flow.stdout
    processes = [psutil.Process(pid) for pid in json.loads(flow.stdout.readline())]
    processes += processes[1].children(recursive=True)
    processes += [p for p in psutil.Process(flow.pid).children() if "flows.repro" in p.cmdline()]
    assert len(processes) >= 4
    flow.send_signal(signum)  # and nobody waits for it: it stays a zombie
    deadline = time.monotonic() + 15
    while alive := [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)
    flow.wait()
