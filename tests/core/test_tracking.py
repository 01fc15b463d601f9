"""A run says where it comes from."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from core import tracking

FILES = ("params.yaml", "dvc.lock", "model.py")


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The commit of a working directory under git."""
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        Path(name).write_text("as committed")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], check=True)
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def origin() -> dict[str, str]:
    """The tags of a process that starts now."""
    tracking._git_commit.cache_clear()
    try:
        return tracking.origin_tags()
    finally:
        tracking._git_commit.cache_clear()


def test_params_and_lock_are_recorded_by_their_hashes_and_are_no_changes(commit: str) -> None:
    before = origin()
    for name in ("params.yaml", "dvc.lock"):
        Path(name).write_text(f"another {name}")
    after = origin()
    assert before["mlflow.source.git.commit"] == after["mlflow.source.git.commit"] == commit
    for name, tag in (("params.yaml", "gradus.params_yaml"), ("dvc.lock", "gradus.dvc_lock")):
        assert after[tag] == hashlib.md5(Path(name).read_bytes()).hexdigest() != before[tag]
    Path("dvc.lock").unlink()
    assert origin()["gradus.dvc_lock"] == "none"
    assert origin()["mlflow.source.git.commit"] == commit


def test_another_file_that_differs_is_a_change_and_a_new_one_is_not(commit: str) -> None:
    Path("notes.txt").write_text("not in git")
    assert origin()["mlflow.source.git.commit"] == commit
    Path("model.py").write_text("edited")
    assert origin()["mlflow.source.git.commit"] == f"{commit}+changes"
