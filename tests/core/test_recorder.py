"""What stages record is in MLflow, whatever becomes of the stage, of the recorder, or of the server."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import psutil
import pytest

from core import stage_run, tracking
from core.recorder import Recorder
from core.stage_run import StageRun, journals

PROJECT = Path(__file__).parents[2]


def run_of(stage: str) -> mlflow.entities.Run:
    (run,) = tracking.client().search_runs([tracking.experiment()], f"tags.`gradus.stage` = '{stage}'")
    return run


def test_no_parameter_is_cut(project: Path) -> None:
    run = StageRun("reward_model@grouped")
    many = {f"p{i}": i for i in range(250)}
    long = ["x" * 100] * 100
    run.parameters({"section": many, "imports": long})
    run.finish(True)
    recorded = run_of("reward_model@grouped")
    assert {f"section.p{i}": str(i) for i in range(250)}.items() <= recorded.data.params.items()
    assert recorded.data.params["imports"].endswith("(whole in the artifact parameters.json)")
    path = tracking.client().download_artifacts(recorded.info.run_id, "parameters.json", str(project))
    assert json.loads(Path(path).read_text())["imports"] == long


def test_metrics_keep_their_steps_and_times_however_they_are_sent(project: Path) -> None:
    run = StageRun("corpus")
    for step in range(2500):  # MLflow takes 1000 at once
        run.metrics({"loss": 1 / (step + 1)}, step)
    run.finish(True)
    recorded = run_of("corpus").info
    history = tracking.client().get_metric_history(recorded.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(step, 1 / (step + 1)) for step in range(2500)]
    assert all(recorded.start_time <= m.timestamp <= recorded.end_time for m in history)
    assert not list(journals().glob("*/*")), "MLflow has everything"


def test_the_source_of_an_input_can_be_read(project: Path) -> None:
    (project / "artifacts").mkdir()
    (project / "artifacts/corpus").write_text("text")
    runs = [StageRun("tokenizer"), StageRun("encoding")]
    for run in runs:
        run.inputs({"artifacts/corpus": "digest"})
        run.finish(True)
    for name in ("tokenizer", "encoding"):
        (data,) = run_of(name).inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.digest) == ("artifacts/corpus", "digest")
        assert Path(mlflow.data.get_source(data).load()).read_text() == "text"


def test_what_mlflow_refuses_keeps_nothing_else_back(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = StageRun("corpus")
    (project / "plot.png").touch()
    run.artifact(project / "plot.png")
    for copy in journals().rglob("plot.png"):
        copy.unlink()
    run.metrics({"pairs": 3})
    run.finish(True)
    assert "corpus: MLflow refuses artifact: " in caplog.text
    recorded = run_of("corpus")
    assert (recorded.info.status, recorded.data.metrics) == ("FINISHED", {"pairs": 3.0})


def test_a_server_that_is_gone_gets_everything_when_it_is_back(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone() -> None:
        raise ConnectionError("no server")

    run = StageRun("corpus")
    with monkeypatch.context() as away:
        away.setattr(tracking, "client", gone)
        run.metrics({"pairs": 3})
        run.finish(True)
        ended = tracking.time_ms()
    said = [record.getMessage() for record in caplog.records if record.name == stage_run.log.name]
    assert [text for text in said if text.startswith("tracking does not work: ConnectionError: no server (")]
    assert run_of("corpus").info.status == "RUNNING"
    time.sleep(0.05)
    Recorder(journals()).turn()
    recorded = run_of("corpus")
    assert (recorded.info.status, recorded.data.metrics) == ("FINISHED", {"pairs": 3.0})
    assert recorded.info.end_time <= ended
    assert not list(journals().glob("*/*"))


def test_a_journal_that_a_full_disk_has_cut_is_read_as_far_as_it_goes(project: Path) -> None:
    run = StageRun("corpus")
    run.metrics({"pairs": 3})
    (events,) = journals().glob(f"*/{stage_run.EVENTS}")
    with open(events, "a") as stream:
        stream.write('{"event": "met')
    run.metrics({"lost": 1})
    run.metrics({"kept": 1})
    run.finish(True)
    assert run_of("corpus").data.metrics == {"pairs": 3.0, "kept": 1.0}


def test_a_journal_that_cannot_be_read_keeps_no_other_back(project: Path) -> None:
    run = StageRun("corpus")
    broken = journals() / "0-broken"
    broken.mkdir()
    (broken / stage_run.EVENTS).write_text("no JSON\n")
    run.finish(True)
    assert run_of("corpus").info.status == "FINISHED"
    assert (broken / stage_run.FAILED).exists()


def test_a_process_is_known_by_more_than_its_number() -> None:
    me = tracking.identity(psutil.Process())
    assert tracking.is_alive(me)
    assert not tracking.is_alive(f"{os.getpid()}-1")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    identity = tracking.identity(psutil.Process(ended.pid))
    wait_until(lambda: not tracking.is_alive(identity))  # though nobody has waited for it
    ended.wait()


def test_a_recorder_that_was_killed_has_a_successor_that_sends_the_rest_once(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = StageRun("corpus")
    run.metrics({"pairs": 3})
    with monkeypatch.context() as dying:
        dying.setattr(shutil, "rmtree", lambda folder: None)  # killed when all but the journal's end was done
        Recorder(journals()).turn()
        dying.setattr(stage_run.StageRun, "_wait", lambda self: None)
        run.finish(True)
        Recorder(journals()).turn()
    Recorder(journals()).turn()
    recorded = run_of("corpus")
    assert (recorded.info.status, recorded.data.metrics) == ("FINISHED", {"pairs": 3.0})
    assert not list(journals().glob("*/*"))


def test_a_flow_that_is_ended_names_the_stages_that_end_with_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = tracking.start_parent("a flow", "1")
    monkeypatch.setenv(tracking.PARENT_VARIABLE, parent)
    StageRun("tokenizer").finish(True)
    StageRun("corpus")
    tracking.finish_parent(parent, False, ["encoding"])
    ended = tracking.client().get_run(parent)
    assert ended.info.status == "FAILED"
    assert ended.data.tags["mlflow.note.content"].splitlines() == [
        "Started by a flow.", "", "ran: tokenizer  ", "killed: corpus  ", "up to date: encoding",
    ]  # fmt: skip


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def recorders() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if "core.recorder" in process.cmdline() and process.cwd() == os.getcwd():
                found.append(process)
        except psutil.Error:
            pass
    return found


def test_a_stage_has_its_metrics_in_mlflow_while_it_runs_and_is_killed_there_when_it_is(project: Path) -> None:
    code = (
        "import time\nfrom core.stage_run import StageRun\nrun = StageRun('corpus')\n"
        "for step in range(10_000):\n    run.metrics({'loss': 1.0}, step)\n    time.sleep(0.05)"
    )
    stage = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(PROJECT)})

    def has_metrics() -> bool:
        runs = tracking.client().search_runs([tracking.experiment()], "tags.`gradus.stage` = 'corpus'")
        return bool(runs and runs[0].data.metrics)

    wait_until(has_metrics)
    assert stage.poll() is None
    assert len(recorders()) == 1
    stage.send_signal(signal.SIGKILL)
    stage.wait()
    wait_until(lambda: not recorders())
    run = run_of("corpus")
    assert run.info.status == "KILLED"
    parent = tracking.client().get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FAILED"
    assert "killed: corpus" in parent.data.tags["mlflow.note.content"]


def test_a_stage_alone_is_in_mlflow_when_it_ends_and_loads_no_mlflow(project: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom stages.framework.stage import stage\n"
        "with stage('corpus', Path('out')) as this:\n    this.summarise({'pairs': 3})\nassert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(PROJECT)}, check=True)
    run = run_of("corpus")
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"pairs": 3.0})
    assert tracking.client().get_run(run.data.tags["mlflow.parentRunId"]).info.status == "FINISHED"
    wait_until(lambda: not recorders())
