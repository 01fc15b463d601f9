"""What the command `run` says when a run fails or is ended from outside, and what Ctrl-C reaches."""

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prefect.exceptions import TerminationSignal

import flows.pipeline
from flows.execution import StagesFailed
from flows.graph import Graph, Plan
from gradus import running

PROJECT = Path(__file__).parents[2]
Flow = Callable[[], Awaitable[None]]


@pytest.fixture
def use_flow(monkeypatch: pytest.MonkeyPatch) -> Callable[[Flow], None]:
    """Puts a flow in the place of the pipeline, in a project with one stage to run."""
    monkeypatch.setattr(running, "plan", lambda: Plan(Graph({"corpus": frozenset()}), {"corpus"}))
    return lambda flow: monkeypatch.setattr(flows.pipeline, "pipeline", flow)


def test_a_termination_signal_is_no_traceback(
    use_flow: Callable[[Flow], None], capsys: pytest.CaptureFixture[str]
) -> None:
    async def ended() -> None:  # what Prefect's handler of the signal does to a flow
        raise TerminationSignal(signal=signal.SIGTERM)

    use_flow(ended)
    assert running.run("pipeline") == 128 + signal.SIGTERM
    assert "pipeline was ended. The same command continues from there." in capsys.readouterr().err


def test_a_failed_run_ends_with_why_and_what_to_do(
    use_flow: Callable[[Flow], None], capsys: pytest.CaptureFixture[str]
) -> None:
    async def failed() -> None:
        raise StagesFailed("stage corpus failed. Its last lines:\ncorpus: error: no such file")

    use_flow(failed)
    assert running.run("pipeline") == 1
    message = capsys.readouterr().err
    assert "pipeline failed:\nstage corpus failed. Its last lines:\ncorpus: error: no such file\n" in message
    assert "run the same command again" in message
    assert "make ui" in message


def test_ctrl_c_ends_this_process_alone_and_once() -> None:
    code = """
import os, signal, subprocess, sys, time
from gradus.running import _ended_by_signals
class Ended(Exception): ...
try:
    with _ended_by_signals(Ended):
        server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print("ready", flush=True)
        time.sleep(60)
except Ended:
    time.sleep(0.5)
    print("server", "ended" if server.poll() else "runs")
server.kill()
"""
    # A session of its own stands for a terminal's foreground: all its processes get the signal.
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.read() == "server runs\n"
    assert process.wait(60) == 0
