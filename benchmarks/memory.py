"""The peak of a process' anonymous memory: mapped Arrow files, which the system can drop at any time, are not in it."""

import threading
import time
from pathlib import Path


def watched() -> list[int]:
    """A list whose one element is the peak so far, in MB, followed from now on by a thread."""
    peak = [0]
    threading.Thread(target=_watch, args=(peak,), daemon=True).start()
    return peak


def _watch(peak: list[int]) -> None:
    while True:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak[0] = max(peak[0], int(status.split("RssAnon:")[1].split()[0]) // 1024)
        time.sleep(0.05)
