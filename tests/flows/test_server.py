"""Prefect's servers, started as this project starts them: schedules fire, and no other web page is obeyed."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

PROJECT = Path(__file__).parents[2]
STAGES = """
stages:
  prefix_tuning:
    cmd: "true"
  comparisons:
    cmd: timeout 120 sh -c 'until [ -e asked ]; do sleep 0.1; done'
"""
FOREIGN = {"Origin": "http://foreign.example"}
ALLOWED = "http://allowed.example"
TIMEOUT = 180


class Project:
    """A folder with two trivial stages, in which commands run as a user would run them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
        (folder / "dvc.yaml").write_text(STAGES)
        (folder / "params.yaml").write_text((PROJECT / "params.yaml").read_text())
        unwanted = ("PREFECT_", "MLFLOW_", "GRADUS_")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)} | {
            "HOME": str(folder),  # Prefect's data base and profiles are in it
            "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        }

    def start(self, log: str, *command: str, **variables: str) -> subprocess.Popen[bytes]:
        with open(self.folder / log, "wb") as output:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=self.environment | variables,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_for(self, pattern: str, log: str, process: subprocess.Popen[bytes]) -> re.Match[str]:
        deadline = time.monotonic() + TIMEOUT
        while not (match := re.search(pattern, text := (self.folder / log).read_text(errors="replace"))):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        return match


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def address(project: Project) -> Iterator[str]:
    """That of the Prefect server of `gradus ui`."""
    mlflow, prefect = free_port(), free_port()
    ui = ["-m", "gradus.cli", "ui", "--mlflow-port", str(mlflow), "--prefect-port", str(prefect)]
    process = project.start("ui.log", *ui, PREFECT_SERVER_CORS_ALLOWED_ORIGINS=ALLOWED)
    try:
        yield project.wait_for(r"Prefect  (http://\S+)\nCtrl-C", "ui.log", process)[1]
    finally:
        end(process)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def end(*processes: subprocess.Popen[bytes]) -> None:
    """Ends processes with all that they started."""
    for process in processes:
        os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    for process in processes:
        with contextlib.suppress(ProcessLookupError):  # nobody is left in the group
            while True:
                process.poll()
                os.killpg(process.pid, 0 if time.monotonic() < deadline else signal.SIGKILL)
                time.sleep(0.1)


def post(server: str, path: str, **content: object) -> httpx.Response:
    """A change, or a query, as the server's own UI sends it: with its Origin and a token."""
    token = httpx.get(f"{server}/api/csrf-token", params={"client": "test"}, timeout=60).json()["token"]
    headers = {"Origin": server, "Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": token}
    return httpx.post(f"{server}/api/{path}", json=content, headers=headers, timeout=60)


def assert_foreign_pages_are_refused(server: str) -> None:
    flows = f"{server}/api/flows/"
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    body = b'{"name": "of a foreign page"}'
    changes = [
        httpx.options(flows, headers=FOREIGN | preflight, timeout=60),
        httpx.post(flows, content=body, headers=FOREIGN | {"Content-Type": "application/json"}, timeout=60),
        # These two a browser sends without asking first; Prefect takes a body of no type for JSON.
        httpx.post(flows, content=body, headers=FOREIGN | {"Content-Type": "text/plain"}, timeout=60),
        httpx.post(flows, content=body, headers=FOREIGN, timeout=60),
    ]
    token = httpx.get(f"{server}/api/csrf-token", params={"client": "test"}, headers=FOREIGN, timeout=60)
    assert [r.status_code in (400, 403) for r in changes] == [True] * 4
    assert not any("access-control-allow-origin" in r.headers for r in [*changes, token])


def test_runs_of_an_interval_and_of_a_cron_line_are_scheduled_and_complete(project: Project, address: str) -> None:
    (project.folder / "asked").touch()
    serve = {
        "interval.log": "from flows.parts import comparison_import as f; f.serve('often', interval=15, limit=1)",
        "cron.log": "from flows.parts import prefix_tuning as f; f.serve('nightly', cron='* * * * *', limit=1)",
    }
    served = [project.start(log, "-c", code, PREFECT_API_URL=f"{address}/api") for log, code in serve.items()]
    completed: set[str] = set()
    deadline = time.monotonic() + TIMEOUT
    try:
        while completed != {"IntervalSchedule", "CronSchedule"}:
            logs = "\n".join((project.folder / log).read_text() for log in ("tracking/ui.log", *serve))
            assert time.monotonic() < deadline, f"completed: {completed}\n{logs[-5000:]}"
            time.sleep(1)
            runs = post(address, "flow_runs/filter", flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}}).json()
            completed = {run["created_by"]["display_value"] for run in runs if run["auto_scheduled"]}
    finally:
        end(*served)


def test_the_ui_obeys_its_own_pages_and_those_a_user_allows(address: str) -> None:
    for server in (address, address.replace("127.0.0.1", "localhost")):
        assert post(server, "flows/", name="of the UI").is_success
        assert httpx.get(f"{server}/ui-settings").json()["api_url"] == "/api"  # so its pages are of the API's origin
    allowed = httpx.get(f"{address}/api/health", headers={"Origin": ALLOWED})
    assert allowed.is_success
    assert allowed.headers["access-control-allow-origin"] == ALLOWED


def test_the_ui_refuses_foreign_pages(address: str) -> None:
    assert_foreign_pages_are_refused(address)
    with pytest.raises(InvalidStatus, match="403"):  # browsers ask nobody before a websocket
        connect(f"{address.replace('http', 'ws')}/api/events/out", origin=FOREIGN["Origin"])
    # A page whose name was made to lead here: its Host is its own, and it is of the same origin.
    assert httpx.get(f"{address}/api/csrf-token?client=test", headers={"Host": "foreign.example"}).status_code == 400


def test_the_temporary_server_of_a_run_refuses_foreign_pages_and_the_run_completes(project: Project) -> None:
    (project.folder / "asked").unlink(missing_ok=True)
    run = project.start("run.log", "-m", "gradus.cli", "run", "comparison_import", PREFECT_LOGGING_LEVEL="INFO")
    try:
        server = project.wait_for(r"temporary server on (http://127\.0\.0\.1:\d+)", "run.log", run)[1]
        project.wait_for("to run: comparisons", "run.log", run)
        assert_foreign_pages_are_refused(server)
        (project.folder / "asked").touch()
        assert run.wait(TIMEOUT) == 0, (project.folder / "run.log").read_text()
    finally:
        if run.poll() is None:
            end(run)


def test_what_a_user_sets_wins() -> None:
    name = "PREFECT_SERVER_CSRF_PROTECTION_ENABLED"
    show = f"import flows, os; print(os.environ['{name}'])"
    printed = subprocess.run(
        [sys.executable, "-c", show], env=os.environ | {name: "false"}, cwd=PROJECT, capture_output=True, check=True
    )
    assert printed.stdout == b"false\n"
