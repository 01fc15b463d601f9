"""The whole labeling loop against a running Label Studio: tasks made, uploaded, annotated by two people, exported, imported.

Run by `make test-labeling`, which installs the server into .venv-labeling. With RECORD=1 the exports become the fixtures of
tests/data/comparisons/formats/test_label_studio.py.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from typer.testing import CliRunner

from data.comparisons.collection import rankings, read_collection
from data.comparisons.importing.rankings import import_rankings
from data.comparisons.importing.source import Source
from data.comparisons.ranking import Ranking
from gradus.cli import app

PROJECT = Path(__file__).parents[2]
SERVER = PROJECT / ".venv-labeling/bin/label-studio"
FIXTURES = PROJECT / "tests/data/comparisons/formats/fixtures"
OWNER, ANNOTATOR = "owner@example.org", "annotator@example.org"
START_SECONDS = 300

HARMLESS = "<script>alert(1)</script>Guten Tag"
CANDIDATES: list[dict[str, Any]] = [
    {
        "prompt": 'Translate: "Good day,\n<b>$name</b> & {{others}}"',
        "responses": ["Grüß Gott 😀", HARMLESS, "Tag", "<b>Hallo</b> &amp; Servus", "line one\nline two"],
        "systems": [["lstm"], ["transformer", "luong"], [], ["luong"], ["transformer"]],
        "reference": "Guten Tag",
    },
    {
        "messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Bye"}],
        "responses": ["See you", "Farewell", "Adieu", "So long"],
        "systems": [["s1"], ["s2"], ["s3"], ["s4"]],
    },
    {"prompt": "Nine", "responses": [f"response {n}" for n in range(9)]},
    {"prompt": "Judged by nobody", "responses": ["a", "b", "c", "d"]},
]  # fmt: skip


class User:
    """A person who is signed in. Passwords and tokens go in request bodies and headers, which servers do not log."""

    def __init__(self, url: str, email: str, password: str, invitation: str | None = None) -> None:
        self.url, self.http = url, requests.Session()
        form = {"email": email, "password": password}
        page = f"/user/signup/?token={invitation}" if invitation else "/user/login/"
        self.http.get(url + page).raise_for_status()
        self._post_form(page, form)
        # A personal access token, as users make one in their account's settings; it buys an access token of five minutes.
        token = self.call("POST", "/api/token/", json={}, headers={"X-CSRFToken": self.http.cookies["csrftoken"]})
        access = self.call("POST", "/api/token/refresh/", json={"refresh": token["token"]})["access"]
        self.http = requests.Session()
        self.http.headers["Authorization"] = f"Bearer {access}"
        self.id = self.call("GET", "/api/current-user/whoami")["id"]

    def _post_form(self, page: str, form: dict[str, str]) -> None:
        answer = self.http.post(
            self.url + page, data={**form, "csrfmiddlewaretoken": self.http.cookies["csrftoken"]}, allow_redirects=False
        )
        assert answer.status_code == 302, f"{page.partition('?')[0]}: {answer.status_code}"

    def call(self, method: str, path: str, **how: Any) -> Any:
        answer = self.http.request(method, self.url + path, timeout=60, **how)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def annotate(self, task: int, *results: dict[str, Any], skip: bool = False) -> int:
        body = {"result": list(results), "was_cancelled": skip, "lead_time": 1.5}
        return self.call("POST", f"/api/tasks/{task}/annotations/", json=body)["id"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URL of a Label Studio of its own, and its owner's password; gone after the test with all it stored."""
    folder = tmp_path_factory.mktemp("label-studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    password = secrets.token_urlsafe(20)
    environment = {
        **{k: v for k, v in os.environ.items() if k in ("HOME", "PATH", "LANG", "TMPDIR")},
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder), "LABEL_STUDIO_USERNAME": OWNER, "LABEL_STUDIO_PASSWORD": password,
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true", "LATEST_VERSION_CHECK": "false", "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "",
    }  # fmt: skip
    # --host would only be the name in links: it is --internal-host that keeps the server off the network.
    command = [SERVER, "start", "--internal-host", "127.0.0.1", "--port", str(port), "--no-browser"]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, process, folder / "server.log")
        addresses = {c.laddr.ip for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"}
        assert addresses == {"127.0.0.1"}
        yield url, password
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if requests.get(f"{url}/health", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(1)
    raise AssertionError(f"Label Studio did not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="module")
def users(server: tuple[str, str]) -> tuple[User, User]:
    """The project's owner and an annotator whom the owner invited."""
    url, password = server
    owner = User(url, OWNER, password)
    invitation = owner.call("GET", "/api/invite")["token"]
    return owner, User(url, ANNOTATOR, secrets.token_urlsafe(20), invitation)


def make_project(
    owner: User, folder: Path, candidates: list[dict[str, Any]], template: str
) -> tuple[int, list[dict[str, Any]]]:
    """Tasks made by our command, in a project of their own; the project's id and the tasks as the server gives them."""
    source, tasks, config = folder / "candidates.jsonl", folder / "tasks.json", folder / "labeling_config.xml"
    source.write_text("".join(json.dumps(c) + "\n" for c in candidates), encoding="utf-8")
    command = ["comparisons", "tasks", str(source), "--output", str(tasks), "--template", template]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    settings = {
        "title": f"Gradus {template}",
        "label_config": config.read_text(encoding="utf-8"),
        "maximum_annotations": 2,
    }
    project = owner.call("POST", "/api/projects", json=settings)["id"]
    with open(tasks, "rb") as file:
        owner.call("POST", f"/api/projects/{project}/import", files={"file": ("tasks.json", file, "application/json")})
    listed = owner.call("GET", f"/api/projects/{project}/tasks/", params={"page_size": 100})
    return project, sorted(listed, key=lambda task: task["id"])


def export(owner: User, project: int, path: Path, fixture: str) -> None:
    found = owner.call(
        "GET", f"/api/projects/{project}/export", params={"exportType": "JSON", "download_all_tasks": "true"}
    )
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
    if os.environ.get("RECORD") == "1":
        (FIXTURES / fixture).write_text(text, encoding="utf-8")


def imported(path: Path, folder: Path) -> list[Ranking]:
    report = import_rankings([Source(source=str(path), format="label_studio")], folder, strict=True)
    assert not report.dropped
    return list(rankings(read_collection(folder)))


def placed(task: dict[str, Any], ranks: dict[str, int]) -> dict[str, Any]:
    """The result that Label Studio's editor submits when responses, by their texts, lie in buckets; the others in the list."""
    buckets: dict[str, list[str]] = {name: [] for name in ("_", *(f"rank_{n}" for n in range(1, 10)))}
    for item in task["data"]["responses"]:
        buckets[f"rank_{ranks[item['body']]}" if item["body"] in ranks else "_"].append(item["id"])
    return {"from_name": "ranking", "to_name": "responses", "type": "ranker", "value": {"ranker": buckets}}


def test_nobody_signs_up_without_the_owners_invitation(server: tuple[str, str]) -> None:
    with pytest.raises(AssertionError, match="signup/: 403"):
        User(server[0], "stranger@example.org", secrets.token_urlsafe(20), "not the invitation")


def test_rankings_come_back_as_they_were_given(users: tuple[User, User], tmp_path: Path) -> None:
    owner, annotator = users
    project, tasks = make_project(owner, tmp_path, CANDIDATES, "ranker")
    assert [t["data"]["prompt"] for t in tasks][2:] == ["Nine", "Judged by nobody"]
    first, second, third, unjudged = tasks
    assert any(
        [i["body"] for i in t["data"]["responses"]] != c["responses"] for t, c in zip(tasks, CANDIDATES, strict=True)
    )
    assert "lstm" not in json.dumps(first["data"])
    given = [
        (CANDIDATES[0], owner, first, {"Grüß Gott 😀": 1, HARMLESS: 1, "Tag": 3}),  # a tie, a gap, two not ranked
        (CANDIDATES[0], annotator, first, {c: n for n, c in enumerate(CANDIDATES[0]["responses"], start=1)}),
        (CANDIDATES[1], annotator, second, {"See you": 2, "Farewell": 2, "Adieu": 2, "So long": 1}),
        (CANDIDATES[2], owner, third, {f"response {n}": 9 - n for n in range(9)}),
    ]
    ids = [str(user.annotate(task["id"], placed(task, ranks))) for _, user, task, ranks in given]
    annotator.annotate(third["id"], skip=True)
    owner.annotate(unjudged["id"], skip=True)
    annotator.annotate(unjudged["id"], placed(unjudged, {}))  # submitted untouched

    export(owner, project, tmp_path / "export.json", "label_studio_export.json")
    found = {r.id: r for r in imported(tmp_path / "export.json", tmp_path / "rankings")}
    assert sorted(found) == sorted(ids)
    for id, (candidates, user, _, ranks) in zip(ids, given, strict=True):
        one = found[id]
        systems = dict(zip(candidates["responses"], candidates.get("systems") or (), strict=False))
        assert dict(zip(one.responses, one.ranks, strict=True)) == {c: ranks.get(c) for c in candidates["responses"]}
        assert one.labeler == str(user.id)
        assert one.systems == (tuple(tuple(systems[r]) for r in one.responses) if systems else None)
        assert one.reference == candidates.get("reference")
        assert [m.model_dump() for m in one.messages or ()] == candidates.get("messages", [])
        assert one.prompt == candidates.get("prompt", "user: Hello\n\nassistant: Hi\n\nuser: Bye")
        assert one.time
        assert one.origin == "export.json"


def test_pairs_of_a_labeler_come_back_as_one_ranking(users: tuple[User, User], tmp_path: Path) -> None:
    owner, annotator = users
    project, tasks = make_project(owner, tmp_path, CANDIDATES[1:2], "pairwise")
    assert len(tasks) == 6  # 4 responses
    ranks = {"See you": 3, "Farewell": 2, "Adieu": 2, "So long": 1}
    for task in tasks:
        left, right = (ranks[task["data"][side]] for side in ("left", "right"))
        side = {
            "from_name": "comparison",
            "to_name": "comparison",
            "type": "pairwise",
            "value": {"selected": "left" if left < right else "right"},
        }
        tie = {"from_name": "tie", "to_name": "prompt", "type": "choices", "value": {"choices": ["Neither is better"]}}
        owner.annotate(task["id"], tie if left == right else side)
    left = annotator.annotate(
        tasks[0]["id"],
        {"from_name": "comparison", "to_name": "comparison", "type": "pairwise", "value": {"selected": "left"}},
    )

    export(owner, project, tmp_path / "export.json", "label_studio_pairwise_export.json")
    of_owner, of_annotator = sorted(
        imported(tmp_path / "export.json", tmp_path / "rankings"), key=lambda r: -len(r.responses)
    )
    assert dict(zip(of_owner.responses, of_owner.ranks, strict=True)) == ranks
    assert of_owner.labeler == str(owner.id)
    assert of_owner.systems is not None
    assert dict(zip(of_owner.responses, of_owner.systems, strict=True))["Farewell"] == ("s2",)
    assert (of_annotator.id, of_annotator.labeler, of_annotator.ranks) == (str(left), str(annotator.id), (1, 2))
    assert of_annotator.responses == (tasks[0]["data"]["left"], tasks[0]["data"]["right"])
