"""A stage's output appears when it is finished; errors are one readable line and exit code 2."""

from pathlib import Path

import mlflow
import pytest

from data.errors import InputError
from gradus import tracking
from stages.stage import stage


def test_it_writes_its_output_and_its_run(project: Path) -> None:
    (project / "in.txt").write_text("input")
    with stage("tokenizer", Path("artifacts/tokenizer"), "tokenizer") as this:
        this.read(Path("in.txt"))
        this.summarise({"pieces": 7, "nested": {"loss": 0.5}, "text": "not a number"})
        assert not Path("artifacts/tokenizer").exists()
    assert Path("artifacts/tokenizer/summary.json").is_file()
    client = mlflow.MlflowClient(tracking.uri())
    (run,) = client.search_runs([tracking.experiment()], "tags.`gradus.stage` = 'tokenizer'")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "1", "tokenizer.vocabulary": "4000", "tokenizer.min_frequency": "2"}
    assert run.data.metrics == {"pieces": 7, "nested.loss": 0.5}
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["in.txt"]
    assert {"mlflow.source.git.commit", "gradus.dvc_lock", "gradus.attempt", "mlflow.parentRunId"} <= set(run.data.tags)
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FINISHED"


def test_an_input_error_is_one_line_and_leaves_the_old_output(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path("artifacts/corpus")
    out.mkdir(parents=True)
    (out / "old").touch()
    with pytest.raises(SystemExit) as exit_, stage("corpus", out) as this:
        (this.out / "half").touch()
        raise InputError("a.txt:3: not UTF-8")
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "corpus: error: a.txt:3: not UTF-8\n"
    assert [p.name for p in out.iterdir()] == ["old"]
    (run,) = tracking.client().search_runs([tracking.experiment()], "tags.`gradus.stage` = 'corpus'")
    assert run.info.status == "FAILED"


def test_a_tracking_server_that_is_gone_stops_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    tracking.client.cache_clear()
    with stage("corpus", Path("artifacts/corpus")) as this:
        this.summarise({"pairs": 1})
    assert Path("artifacts/corpus/summary.json").is_file()


def test_runs_of_dead_processes_are_marked_killed(project: Path) -> None:
    client = tracking.client()
    tags = {"gradus.host": __import__("socket").gethostname(), "gradus.process": "999999999-1"}
    dead = client.create_run(tracking.experiment(), tags=tags).info.run_id
    tracking.start_parent("next", "test")
    assert client.get_run(dead).info.status == "KILLED"
