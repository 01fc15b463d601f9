"""How much memory a process has used at most. Standard library only: other projects' environments read this too."""

import threading
import time
from pathlib import Path


def peak() -> int:
    """The most resident memory of this process so far, in MB. `ru_maxrss` would count its parent's before the start, too."""
    return _status("VmHWM:") // 1024


def watched() -> list[int]:
    """A list whose one element is the peak of anonymous memory so far, in MB, followed from now on by a thread.

    Mapped Arrow files, which the system can drop at any time, are not in it.
    """
    peak = [0]
    threading.Thread(target=_watch, args=(peak,), daemon=True).start()
    return peak


def _watch(peak: list[int]) -> None:
    while True:
        peak[0] = max(peak[0], _status("RssAnon:") // 1024)
        time.sleep(0.05)


def _status(name: str) -> int:
    """kB."""
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split(name)[1].split()[0])
