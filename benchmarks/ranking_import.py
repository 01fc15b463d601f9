"""Import of many rankings, and of as many after a kill: `python -m benchmarks.ranking_import [RANKINGS]` prints one JSON object.

The file has K = 4 responses of a sentence each, with ties, gaps and 1,000 labelers. The function behind `gradus comparisons import` reads
it in a process of its own, on one core. A second import is killed (SIGKILL) when half of its shards are finished, and started again.
Memory is the process' peak of anonymous pages: mapped files, which the system can drop at any time, are not in it; the whole resident peak
is reported beside it.
"""

import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks import memory
from core.process_setup import set_up_process

RANKINGS = 1_000_000
CORES = {0}


def main() -> None:
    """Prints rankings per second, peak memory, and what the killed import came to."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else RANKINGS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "rankings.jsonl"
        write_rankings(file, count)
        measured = imported(file, folder / "whole")
        kill_half_way(file, folder / "killed", count)
        again = imported(file, folder / "killed")
        whole, completed = (read_keys(folder / name) for name in ("whole", "killed"))
        print(
            json.dumps(
                {
                    "rankings": count,
                    "megabytes": round(file.stat().st_size / 1e6),
                    "core": "one of " + processor(),
                    **measured,
                    "killed_after": again["taken_over"],
                    "seconds_after_restart": again["seconds"],
                    "rankings_after_kill_and_restart": len(completed),
                    "duplicates": len(completed) - len(set(completed)),
                    "same_as_without_kill": whole == completed,
                }
            )
        )


def write_rankings(path: Path, count: int) -> None:
    """Distinct rankings, of which each says something else."""
    chance = random.Random(1)
    words = [f"word{i}" for i in range(5000)]
    sentences = [" ".join(chance.choices(words, k=12)) for _ in range(10_000)]
    with open(path, "w", encoding="utf-8") as file:
        for i in range(count):
            responses = [f"{sentence} {k}" for k, sentence in enumerate(chance.sample(sentences, 4))]
            ranks = chance.choice(([1, 2, 3, 4], [2, 1, 1, 3], [1, None, 2, 3], [4, 1, 2, 3]))
            record = {
                "prompt": f"{i} {sentences[i % 10_000]}",
                "responses": responses,
                "ranks": ranks,
                "labeler": f"labeler {i % 1000}",
            }
            file.write(json.dumps(record) + "\n")


def imported(file: Path, folder: Path) -> dict[str, float]:
    """Runs an import to its end in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_import, args=(file, folder, theirs))
    process.start()
    theirs.close()
    measures: dict[str, float] = ours.recv()
    process.join()
    return measures


def kill_half_way(file: Path, folder: Path, count: int) -> None:
    """Starts an import and ends it by SIGKILL once half of the rankings are in finished shards."""
    from data.comparisons.collection import SHARD_ROWS

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_import, args=(file, folder, theirs))
    process.start()
    while process.is_alive() and finished(folder) < max(SHARD_ROWS, count // 2):
        time.sleep(0.01)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    ours.close()
    assert not folder.exists(), "the import ended before it could be killed"


def finished(folder: Path) -> int:
    """Rankings in the finished shards of an import that was killed, or still runs."""
    journal = folder.parent / f".{folder.name}.import" / "journal.json"
    return int(json.loads(journal.read_text())["position"]) if journal.exists() else 0


def _import(file: Path, folder: Path, answer: Connection) -> None:
    os.sched_setaffinity(0, CORES)
    set_up_process()
    from core.progress import Progress
    from data.comparisons.importing.rankings import import_rankings
    from data.comparisons.importing.source import Source

    sys.stdout = sys.stderr  # standard output has the JSON object alone
    taken_over = finished(folder)
    peak = memory.watched()
    started = time.monotonic()
    report = import_rankings([Source(source=str(file))], folder, bar=lambda total: Progress("import", total))
    seconds = time.monotonic() - started
    answer.send(
        {
            "kept": report.kept,
            "seconds": round(seconds, 1),
            "rankings_per_second": round((report.kept - taken_over) / seconds),
            "peak_anonymous_mb": peak[0],
            "peak_resident_mb": memory.peak(),
            "taken_over": taken_over,
        }
    )


def read_keys(folder: Path) -> list[int]:
    """The keys of a collection's rankings, in order."""
    from data.comparisons.collection import State
    from data.comparisons.collection import read_keys as keys_of

    return [key for name in State.of(folder).names for key in keys_of(folder / name).tolist()]


def processor() -> str:
    """The name of the processor and the number of its cores here."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{os.cpu_count()} x {names[0].partition(':')[2].strip() if names else 'unknown'}"


if __name__ == "__main__":
    main()
