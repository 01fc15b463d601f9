"""A copy of this project, in which tests run commands as a user would run them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mlflow

PROJECT = Path(__file__).parents[1]
TIMEOUT = 600


class Project:
    """A copy of this project's files, under git, in which commands run as a user would run them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in listed.stdout.splitlines():
            if (PROJECT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(PROJECT / name, folder / name, follow_symlinks=False)
        home = folder.parent / "home"
        home.mkdir()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        unwanted = {
            "MLFLOW_TRACKING_URI",
            "PREFECT_API_URL",
            "GRADUS_PARENT_RUN",
            "GRADUS_DATA",
            "PYTHONDONTWRITEBYTECODE",
        }
        self.environment = {k: v for k, v in os.environ.items() if k not in unwanted} | {
            "PATH": path,
            "HOME": str(home),
            "PYTHONPATH": str(folder),
            "OMP_NUM_THREADS": "1",  # models are tiny, and other tests have the other core
        }
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "start"]):
            subprocess.run(["git", *command], cwd=folder, check=True)

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *command: str, stdin: str = "", expect: int = 0) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == expect, done.stdout[-5000:]
        return done.stdout

    def would_run(self) -> set[str]:
        """The stages that dvc holds for changed, and what follows them."""
        code = "from flows.graph import plan; print(*plan().to_run)"
        return set(self.run(sys.executable, "-c", code).split())

    def change(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def client(self) -> "mlflow.MlflowClient":
        import mlflow  # over a second, which few tests need

        return mlflow.MlflowClient(f"sqlite:///{self.folder}/tracking/mlflow.db")

    def runs(self, parents: bool) -> "list[mlflow.entities.Run]":
        client = self.client()
        experiment = client.get_experiment_by_name("gradus").experiment_id
        runs = client.search_runs([experiment], max_results=1000)
        return [r for r in runs if ("mlflow.parentRunId" not in r.data.tags) == parents]
