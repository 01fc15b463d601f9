"""The recorder: sends the journals of stages to MLflow. (What they record is in `core/stage_run.py`, the calls in `core/tracking.py`.)

`python -m core.recorder`, one for each project and tracking server. A stage starts it. It lives until that stage's flow, or `dvc`,
has ended and MLflow has everything: its client is loaded once for all stages of a run. What a server does not take now is kept,
and sent when it answers, or by the next recorder.
"""

import contextlib
import itertools
import json
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import tracking
from core.folders import finished_file
from core.stage_run import EVENTS, FAILED, journals, only_recorder

SECONDS_BETWEEN_TURNS = 0.1
SECONDS_BETWEEN_BATCHES = 1.0  # of the metrics of a stage that runs
SECONDS_BETWEEN_ATTEMPTS = 30.0  # to reach a server that is gone
ATTEMPTS = 3  # to send what a server that answers does not take
STATE = "sent.json"

log = logging.getLogger("gradus.recorder")

Event = Mapping[str, Any]


class ServerGone(Exception):
    """The tracking server does not answer."""


class Journal:
    """A stage's journal: what of it MLflow has, and what comes next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with open(folder / EVENTS, "rb") as events:
            self.start: Event = json.loads(events.readline())
        state = folder / STATE
        sent = json.loads(state.read_text(encoding="utf-8")) if state.exists() else {}
        self.offset, self.ended = sent.get("offset", 0), sent.get("ended", False)
        self.run, self.parent = sent.get("run", ""), sent.get("parent", "")
        self.over = False  # its stage writes no more
        self.next_turn = 0.0
        self.failed_until, self.problem = 0.0, ""

    def send(self) -> None:
        """Sends what is new. Removes the journal once its stage has ended."""
        is_alive = tracking.is_alive(self.start["tags"]["gradus.process"])  # before its last lines are read
        events = self._new_events()
        has_end = self.ended or any(event["event"] == "end" for event, _ in events)
        self.over = has_end or not is_alive
        if not self.over and time.monotonic() < self.next_turn:
            return
        if not has_end and not is_alive:
            end = events[-1][1] if events else self.offset
            events.append(({"event": "end", "status": "KILLED", "time": tracking.time_ms()}, end))
        for _, group in itertools.groupby(events, key=_kind):
            batch = list(group)
            self._send([event for event, _ in batch])
            self.offset, self.ended = batch[-1][1], batch[-1][0]["event"] == "end"
            self._save()
        (self.folder / FAILED).unlink(missing_ok=True)
        self.next_turn = time.monotonic() + SECONDS_BETWEEN_BATCHES
        if self.ended:
            shutil.rmtree(self.folder)

    def _new_events(self) -> list[tuple[Event, int]]:
        """The whole lines that are not sent, each with the offset behind it."""
        with open(self.folder / EVENTS, "rb") as stream:
            stream.seek(self.offset)
            lines = [line for line in stream if line.endswith(b"\n")]
        ends = itertools.accumulate(map(len, lines), initial=self.offset)
        return list(zip(map(_parsed, lines), itertools.islice(ends, 1, None), strict=True))

    def _save(self) -> None:
        state = {"offset": self.offset, "ended": self.ended, "run": self.run, "parent": self.parent}
        with finished_file(self.folder / STATE) as partial:
            partial.write_text(json.dumps(state), encoding="utf-8")

    def _send(self, events: list[Event]) -> None:
        """Sends events of one kind. What MLflow refuses several times is left out: one event keeps no other back."""
        for attempt in range(ATTEMPTS):  # a data set that two stages log at once is refused to one of them
            try:
                return self._call(events)
            except Exception as error:  # whatever the tracking server or its client does
                if not self.run or not _answers():
                    raise ServerGone(f"{type(error).__name__}: {error}") from error
                if attempt == ATTEMPTS - 1:
                    log.warning("%s: MLflow refuses %s: %s", self.start["stage"], events[0]["event"], error)

    def _call(self, events: list[Event]) -> None:
        event = events[0]
        match event["event"]:
            case "start":
                self._create()
            case "parameters":
                _log_parameters(self.run, event["values"])
            case "metrics":
                tracking.log_points(self.run, [point for event in events for point in _points(event)])
            case "headlines":
                tracking.log_points(self.parent, _points(event))
            case "inputs":
                _log_inputs(self.run, event["digests"])
            case "artifact":
                tracking.client().log_artifact(self.run, event["path"])
            case "end":
                tracking.client().set_terminated(self.run, event["status"], event["time"])
                if not self.start["parent"]:
                    tracking.finish_parent(self.parent)

    def _create(self) -> None:
        start = self.start
        self.parent = start["parent"] or _parent_of(start)
        tags = {
            **start["tags"],
            "mlflow.parentRunId": self.parent,
            "gradus.stage": start["stage"],
            "gradus.attempt": str(1 + _unfinished(start["stage"])),
        }
        run = tracking.client().create_run(tracking.experiment(), start["time"], tags, start["stage"])
        self.run = run.info.run_id


class Recorder:
    """All journals of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journals: dict[Path, Journal] = {}
        self.unreadable: set[Path] = set()
        self.parent_processes: set[str] = set()  # of stages: more of these may come while one of them lives
        self.gone_until, self.problem = 0.0, ""  # of the server

    def run(self) -> None:
        """Sends what stages record while more may come."""
        while self.turn():
            time.sleep(SECONDS_BETWEEN_TURNS)

    def turn(self) -> bool:
        """Sends what is new; returns whether more may come."""
        for folder in sorted(_started(self.folder) - self.journals.keys() - self.unreadable):  # the oldest first
            try:
                journal = self.journals[folder] = Journal(folder)
                self.parent_processes.add(journal.start.get("parent_process", ""))
            except (ValueError, KeyError) as error:
                self.unreadable.add(folder)
                _tell(folder, f"{type(error).__name__}: {error}")
        self.journals = {folder: journal for folder, journal in self.journals.items() if folder.exists()}
        for journal in self.journals.values():
            self._turn(journal)
        self.parent_processes = set(filter(tracking.is_alive, self.parent_processes))
        return bool(self.parent_processes) or any(
            not (journal.over and (folder / FAILED).exists())
            for folder, journal in self.journals.items()
            if folder.exists()
        )

    def _turn(self, journal: Journal) -> None:
        now = time.monotonic()
        for until, problem in ((self.gone_until, self.problem), (journal.failed_until, journal.problem)):
            if now < until:
                return _tell(journal.folder, problem)
        try:
            journal.send()
        except ServerGone as error:
            self.gone_until, self.problem = now + SECONDS_BETWEEN_ATTEMPTS, str(error)
            _tell(journal.folder, self.problem)
        except Exception as error:  # such as a disk that is full
            log.exception("%s", journal.folder)
            journal.failed_until, journal.problem = now + SECONDS_BETWEEN_ATTEMPTS, f"{type(error).__name__}: {error}"
            _tell(journal.folder, journal.problem)


def main() -> None:
    """Records this project's journals, unless another process does."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    folder = journals()
    while True:
        with only_recorder(folder) as alone:
            if not alone:
                return
            Recorder(folder).run()
        # One may have come while this process still counted as the recorder.
        if all((journal / FAILED).exists() for journal in _started(folder)):
            return


def _started(folder: Path) -> set[Path]:
    """The journals whose first line is written."""
    started = set()
    for file in folder.glob(f"*/{EVENTS}"):
        with contextlib.suppress(FileNotFoundError), open(file, "rb") as events:
            if events.readline().endswith(b"\n"):
                started.add(file.parent)
    return started


def _tell(folder: Path, problem: str) -> None:
    """Tells a stage that its journal is not sent."""
    if not (folder / FAILED).exists():
        with contextlib.suppress(OSError), finished_file(folder / FAILED) as partial:
            partial.write_text(problem, encoding="utf-8")


def _answers() -> bool:
    return bool(tracking.safely(tracking.experiment, ""))


def _parsed(line: bytes) -> Event:
    try:
        return dict(json.loads(line))
    except ValueError:  # of a disk that was full
        return {"event": ""}


def _kind(numbered: tuple[Event, int]) -> object:
    """What must be equal for events to go into one call: metrics may."""
    event, end = numbered
    return "metrics" if event["event"] == "metrics" else end


def _points(event: Event) -> list[tracking.Point]:
    return [tracking.Point(k, v, event["time"], event.get("step", 0)) for k, v in event["values"].items()]


def _parent_of(start: Event) -> str:
    """The parent run of the dvc process, or of the stage alone, that a stage says it belongs to; made if it is the first stage."""
    client = tracking.client()
    runs = client.search_runs(
        [tracking.experiment()], f"tags.`gradus.invocation` = '{start['invocation']}'", max_results=1
    )
    if runs:
        parent = str(runs[0].info.run_id)
        client.update_run(parent, status="RUNNING")
        return parent
    tags = {**start["tags"], "gradus.process": start["invocation"]}
    return tracking.start_parent(start["started_by"], start["invocation"], tags)


def _unfinished(stage: str) -> int:
    """How many runs of a stage have failed or been killed since it last finished."""
    runs = tracking.client().search_runs(
        [tracking.experiment()],
        f"tags.`gradus.stage` = '{stage}'",
        order_by=["attributes.start_time DESC"],
        max_results=100,
    )
    statuses = [run.info.status for run in runs]
    return statuses.index("FINISHED") if "FINISHED" in statuses else len(statuses)


def _log_parameters(run: str, values: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    whole = " ... (whole in the artifact parameters.json)"
    texts = {name: str(value) for name, value in values.items()}
    short = {
        name: text if len(text) <= tracking.LONGEST_VALUE else text[: tracking.LONGEST_VALUE - len(whole)] + whole
        for name, text in texts.items()
    }
    parameters = [Param(name, text) for name, text in short.items()]
    for batch in tracking.batches(parameters, tracking.PARAMETERS_PER_CALL):
        tracking.client().log_batch(run, params=batch)
    if short != texts:
        tracking.client().log_text(run, json.dumps(values, indent=2, ensure_ascii=False), "parameters.json")


def _log_inputs(run: str, digests: Mapping[str, str]) -> None:
    from mlflow.entities import Dataset, DatasetInput

    rows = [
        DatasetInput(Dataset(name, digest[:32], "local", json.dumps({"uri": str(Path(name).resolve())})), [])
        for name, digest in digests.items()
    ]
    tracking.client().log_inputs(run, datasets=rows)


if __name__ == "__main__":
    main()
