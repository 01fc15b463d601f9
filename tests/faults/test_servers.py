"""`gradus ui` believes no other server, and leaves none behind."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from core.errors import InputError
from gradus.running import serve_uis
from tests.project import PROJECT


def free_port() -> int:
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        return int(connection.getsockname()[1])


@pytest.mark.parametrize("taken", ["--mlflow-port", "--prefect-port"])
def test_a_port_that_another_server_has_is_named_with_the_option_that_changes_it(taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ports = (port, free_port()) if taken == "--mlflow-port" else (free_port(), port)
        with pytest.raises(
            InputError, match=rf"port {port} of 127\.0\.0\.1 is in use by another program.*{taken} {port + 1}"
        ):
            serve_uis(*ports)


@pytest.mark.slow_fault
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_both_servers(signum: signal.Signals, tmp_path: Path) -> None:
    ports = free_port(), free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "gradus.cli", "ui", "--mlflow-port", str(ports[0]), "--prefect-port", str(ports[1])],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(PROJECT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(3)]
    assert lines[-1] == "Ctrl-C ends both.\n", lines
    for port in ports:
        urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=30).close()
    servers = psutil.Process(process.pid).children(recursive=True)
    assert len(servers) >= 2
    process.send_signal(signum)
    assert process.wait(60) == 0
    _, alive = psutil.wait_procs(servers, timeout=20)
    assert not alive
