"""A stage's output appears when it is finished; errors are one readable line and exit code 2."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from core import tracking
from core.errors import DivergedError, InputError
from stages.framework.stage import stage

PROJECT = Path(__file__).parents[3]


def test_it_writes_its_output_and_its_run(project: Path) -> None:
    (project / "artifacts/corpus").mkdir(parents=True)
    with stage("tokenizer", Path("artifacts/tokenizer")) as this:
        this.summarise({"tokens": 7, "nested": {"loss of (x)": 0.5}, "text": "not a number"})
        assert not Path("artifacts/tokenizer").exists()
        in_place: list[bool] = []
        this.when_done.append(lambda: in_place.append(Path("artifacts/tokenizer").exists()))
    assert in_place == [True]
    assert Path("artifacts/tokenizer/summary.json").is_file()
    client = mlflow.MlflowClient(tracking.uri())
    (run,) = client.search_runs([tracking.experiment()], "tags.`gradus.stage` = 'tokenizer'")
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "seed": "1",
        "tokenizer.vocab_size": "4000",
        "tokenizer.min_frequency": "2",
        "tokenizer.kind": "bpe",
    }
    assert run.data.metrics == {"tokens": 7, "nested.loss of _x_": 0.5}
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["artifacts/corpus"]
    assert {"mlflow.source.git.commit", "gradus.dvc_lock", "gradus.attempt", "mlflow.parentRunId"} <= set(run.data.tags)
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FINISHED"


def test_the_parent_run_is_named_and_shows_the_headlines_of_its_stages(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PROJECT / "experiments", "experiments")
    for stage_name, item, summary in (
        ("evaluation", "luong", {"bleu": 14.5, "chrf": 31.25, "sentences": 300}),
        ("evaluation", "transformer", {"bleu": 25.4375, "chrf": 43.5}),
        ("tokenizer", "", {"tokens": 4000}),
    ):
        monkeypatch.setattr("sys.argv", [stage_name, item])
        with stage(stage_name, Path("out", stage_name), "pretraining.architectures" if item else None) as this:
            this.summarise(summary)
    monkeypatch.setattr("sys.argv", ["evaluation", "luong"])
    with pytest.raises(SystemExit), stage("evaluation", Path("out"), "pretraining.architectures"):
        raise InputError("no")
    (child, *_) = tracking.client().search_runs([tracking.experiment()], "tags.`gradus.stage` = 'tokenizer'")
    parent = tracking.client().get_run(child.data.tags["mlflow.parentRunId"])
    assert re.fullmatch(r"default-none-\d{4}-\d\d-\d\d-\d{4}", parent.info.run_name)
    assert parent.data.metrics == {
        "translator.luong.bleu": 14.5,
        "translator.luong.chrf": 31.25,
        "translator.transformer.bleu": 25.4375,
        "translator.transformer.chrf": 43.5,
    }
    assert parent.info.status == "FAILED"
    assert parent.data.tags["mlflow.note.content"].splitlines() == [
        "Started by a stage alone.",
        "",
        "| translator | bleu | chrf |",
        "| --- | ---: | ---: |",
        "| `luong` | 14.50 | 31.25 |",
        "| `transformer` | 25.44 | 43.50 |",
        "",
        "ran: evaluation@luong, evaluation@transformer, tokenizer  ",
        "failed: evaluation@luong",
    ]


def test_its_key_changes_with_what_dvc_yaml_declares(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(item: str) -> str:
        monkeypatch.setattr("sys.argv", ["pretraining", item])
        with stage("pretraining", Path("out"), "pretraining.architectures") as this:
            assert (this.name, this.item) == (f"pretraining@{item}", item)
            return this.key

    first = key("luong")
    assert key("luong") == first
    assert key("transformer") != first
    (project / "artifacts/encoded").mkdir(parents=True)
    (project / "artifacts/encoded/rows").write_text("1")
    second = key("luong")
    assert second != first
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("hidden_size: 128, score: dot", "hidden_size: 120, score: dot"))
    assert key("luong") != second
    (project / "params.yaml").write_text(
        params.replace("min_frequency", "#").replace("tie_margin: 2.0", "tie_margin: 3.0")
    )
    assert key("luong") == second


def _set(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_change_underneath_refuses_the_result_and_names_what_changed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("artifacts/encoded", "artifacts/tokenizer", "lightning_modules/translators/luong"):
        (project / folder).mkdir(parents=True)
    (project / "artifacts/encoded/rows").write_text("1")
    (project / "lightning_modules/translators/luong/model.py").write_text("attention = 1")
    params, out = project / "params.yaml", Path("artifacts/translators")
    monkeypatch.setattr("sys.argv", ["pretraining", "luong"])
    removed: list[str] = []
    with pytest.raises(SystemExit) as ended, stage("pretraining", out, "pretraining.architectures") as this:
        this.when_done.append(lambda: removed.append("the checkpoint"))
        _set(params, "hidden_size: 128, score: dot", "hidden_size: 120, score: dot")
        (project / "artifacts/encoded/rows").write_text("2")
        (project / "lightning_modules/translators/luong/model.py").unlink()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("pretraining@luong: error: changed while the stage ran, so its result is not recorded:\n")
    assert "  params.yaml: pretraining.architectures.luong.hidden_size (was 128, is 120)\n" in error
    assert "  artifacts/encoded\n" in error
    assert "  lightning_modules/translators/luong\n" in error
    assert error.count("\n  ") == 3
    assert not (out / "luong").exists()
    assert removed == []
    (run,) = tracking.client().search_runs([tracking.experiment()], "tags.`gradus.stage` = 'pretraining@luong'")
    assert run.info.status == "FAILED"


def test_a_training_that_diverged_is_one_readable_line_and_exit_code_1(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, stage("corpus", Path("out")):
        raise DivergedError("training diverged: its validation loss is nan.")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "corpus: error: training diverged: its validation loss is nan.\n"
    assert not Path("out").exists()


@pytest.mark.parametrize("wrong", ["", "tokenizer: [", "luong: {}"])
def test_params_that_can_no_longer_be_read_refuse_the_result(
    project: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    with pytest.raises(SystemExit) as ended, stage("corpus", Path("out")):
        (project / "params.yaml").write_text(wrong)
    assert ended.value.code == 2
    assert "result is not recorded:\n  params.yaml" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_change_of_what_the_stage_does_not_depend_on_refuses_nothing(project: Path) -> None:
    with stage("corpus", Path("out")):
        _set(project / "params.yaml", "vocab_size: 4000", "vocab_size: 4001")
    assert Path("out").is_dir()


def test_an_unknown_item_is_an_error_that_names_the_known(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pretraining", "gru"])
    with pytest.raises(SystemExit), stage("pretraining", Path("out"), "pretraining.architectures"):
        pass
    assert "no item 'gru': python -m stages.pretraining ITEM, with one of luong, transformer" in capsys.readouterr().err


def test_the_same_stage_runs_once_at_a_time(project: Path) -> None:
    code = (
        "import time\nfrom pathlib import Path\nfrom stages.framework.stage import stage\n"
        "with stage('corpus', Path('out')):\n    print('in', flush=True)\n    time.sleep({})"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    first = subprocess.Popen(
        [sys.executable, "-c", code.format(60)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert first.stdout
    assert first.stdout.readline() == "in\n"
    second = subprocess.Popen(
        [sys.executable, "-c", code.format(0)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert second.stdout
    assert second.stdout.readline() == f"corpus: waits for process {first.pid}, which is running this stage\n"
    first.kill()
    assert second.wait(60) == 0
    assert Path("out").is_dir()
    first.wait()


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
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # each takes seconds
    tracking.client.cache_clear()
    with stage("corpus", Path("artifacts/corpus")) as this:
        this.summarise({"pairs": 1})
    assert Path("artifacts/corpus/summary.json").is_file()


def test_runs_of_dead_processes_are_marked_killed(project: Path) -> None:
    client = tracking.client()
    tags = {"gradus.host": socket.gethostname(), "gradus.process": "999999999-1"}
    dead = client.create_run(tracking.experiment(), tags=tags).info.run_id
    tracking.start_parent("next", "test")
    assert client.get_run(dead).info.status == "KILLED"


def test_an_attempt_counts_the_runs_that_did_not_finish(project: Path) -> None:
    for attempt, fails in ((1, True), (2, True), (3, False), (1, False)):
        if fails:
            with pytest.raises(RuntimeError), stage("corpus", Path("out")):
                raise RuntimeError
        else:
            with stage("corpus", Path("out")):
                pass
        newest, *_ = tracking.client().search_runs([tracking.experiment()], "tags.`gradus.stage` = 'corpus'")
        assert newest.data.tags["gradus.attempt"] == str(attempt)


def test_an_exit_without_a_code_is_no_success(project: Path) -> None:
    with pytest.raises(SystemExit) as exit_, stage("corpus", Path("out")):
        raise SystemExit
    assert exit_.value.code == 143
    assert not Path("out").exists()


def test_a_stage_for_one_process_refuses_to_be_one_of_several(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as ended, stage("corpus", Path("out")):
        pass
    assert ended.value.code == 2
    assert "corpus: error: this stage runs in one process: start it without torchrun." in capsys.readouterr().err
