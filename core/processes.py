"""A stage in several processes, one per device: `GRADUS_PROCESSES=2`, or `torchrun --nproc-per-node 2 -m stages.NAME ITEM`.

The processes share each batch, and learn what one would have learned: the loss is the mean over the tokens of all. The first
is the stage; the others only compute.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from typing import NamedTuple

import psutil

VARIABLE = "GRADUS_PROCESSES"


class Process(NamedTuple):
    """Rank and world size. A process has the items `rank`, `rank + world_size`, ... of every batch."""

    rank: int = 0
    world_size: int = 1


def this_process() -> Process:
    """Rank and world size as torchrun sets them; without torchrun the only process."""
    return Process(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def start_processes(stage: str) -> None:
    """Where `GRADUS_PROCESSES` asks for several processes, replaces this one by torchrun with as many of the stage's module."""
    if "RANK" in os.environ:
        import torch  # not above: every stage imports this file, and not all need torch

        _end_with_parent()
        if torch.cuda.is_available():  # models are put on "cuda", the current one: each process has its own
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        return
    count = int(os.environ.get(VARIABLE, "1"))
    if count > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        os.execv(sys.executable, [sys.executable, *launcher, "-m", f"stages.{stage}", *sys.argv[1:]])


def end_with(process: psutil.Process) -> None:
    """Sends this process SIGTERM when another one is gone; a training ends with it, and continues from its last checkpoint."""

    def watch() -> None:
        with contextlib.suppress(psutil.Error):
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _end_with_parent() -> None:
    """torchrun gives every process a session of its own: one that is killed leaves them alive, holding the stage's lock."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
