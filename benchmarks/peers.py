"""Other projects' packages to measure against, each in a folder of its own under `.peers/`, installed when first asked for."""

import os
import subprocess
import sys
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
