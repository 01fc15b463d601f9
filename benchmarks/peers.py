"""Other projects' packages to measure against, each in a folder of its own under `.peers/`, installed when first asked for."""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(".peers")


def environment(*requirements: str) -> dict[str, str]:
    """The environment of a process that sees these packages (exact versions, `name==version`) beside this project's.

    They are installed without what they depend on: that has to be in this project's own lock file, in the same versions.
    """
    paths = []
    for requirement in requirements:
        target = FOLDER / requirement
        if not target.is_dir():
            print(f"installing {requirement} into {target} ...", file=sys.stderr)
            partial = target.with_name(f".{target.name}")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(partial)]
            subprocess.run([*command, requirement], check=True)
            partial.rename(target)
        paths.append(str(target))
    return os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}


def interpreter(name: str, requirements: Path) -> Path:
    """The Python of an environment of its own, with exactly these requirements and nothing of this project's.

    `requirements` is a lock file; when it changes, another environment is made.
    """
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:8]
    target = FOLDER / f"{name}-{digest}"
    if not target.is_dir():
        print(f"installing {requirements} into {target} ...", file=sys.stderr)
        partial = target.with_name(f".{target.name}")
        venv.create(partial, clear=True, with_pip=True)
        pip = [str(partial / "bin/python"), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)]
        subprocess.run(pip, check=True)
        partial.rename(target)  # started as bin/python, it finds its packages beside it in any folder
    return target / "bin/python"
