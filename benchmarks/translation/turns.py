"""Workers that take turns: each is set up once, works while it is told to, and waits while another does.

What disturbs the machine for a while so hits all sides alike. A worker's standard output carries JSON lines only: an answer
to each line it is sent. This module is read by other projects' environments too: standard library only.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks.memory import peak


class Turns:
    """A worker's side: it calls `unit` at the start of every token of work, which returns when the clock runs."""

    def __init__(self, units: int) -> None:
        """`units` are the tokens of work of one turn."""
        self.units, self.done, self.amount, self.started = units, units, 0, 0.0
        self.answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print is no answer
        self.answering = False

    def unit(self, amount: int) -> None:
        """Ends the unit before, and the turn with its last unit. `amount` is what the unit now started gets done."""
        if self.done == self.units:
            seconds = time.perf_counter() - self.started
            if self.answering:
                self._answer({"amount": self.amount, "seconds": seconds})
            self._wait()
            self.done, self.amount, self.answering = 0, 0, True
            self.started = time.perf_counter()
        self.done += 1
        self.amount += amount

    def ready(self, **facts: Any) -> None:
        """Says that set-up is done, and what there is to know of this side."""
        self._answer(facts)

    def _answer(self, values: dict[str, Any]) -> None:
        print(json.dumps(values), file=self.answers, flush=True)

    def _wait(self) -> None:
        if not sys.stdin.readline():  # the last turn is over
            with contextlib.suppress(BrokenPipeError):  # nobody listens when another side has failed
                self._answer({"peak_mb": peak()})
            os._exit(0)  # from within another project's training loop, past whatever it does at its end


class Worker:
    """The other end of a worker process."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        self.facts = self._read()

    def turn(self) -> float:
        """The amount of work done per second in one turn."""
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        answer = self._read()
        return float(answer["amount"] / answer["seconds"])

    def end(self) -> int:
        """Ends the process; its peak of resident memory in MB."""
        assert self.process.stdin
        self.process.stdin.close()
        peak = int(self._read()["peak_mb"])
        self.process.wait()
        return peak

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.process.args)} ended with {self.process.wait()}")  # type: ignore[arg-type]
        answer: dict[str, Any] = json.loads(line)
        return answer
