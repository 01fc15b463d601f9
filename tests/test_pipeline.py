"""The whole chain on a tiny configuration, with the real dvc, Prefect and MLflow, in a project of its own.

The tests of this file run in order: each goes on from the state that the one before it left.
"""

import json
import os
import re
import resource
import signal
import stat
import sys

import psutil
import pytest

from tests.project import Project

FIRST = {
    "corpus@kjv_bbe",
    "tokenizer@bpe",
    "encoding@bpe",
    "base_model@smollm2",
}  # what the first test makes with dvc alone
UMASK = os.umask(0)
os.umask(UMASK)


def cpu_seconds() -> float:
    """What processes that this one has waited for have used; wall times say little beside other tests."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("pipeline") / "gradus"
    folder.mkdir()
    made = Project(folder)
    made.run("gradus", "use", "tiny")
    return made


@pytest.fixture(scope="module")
def stages(project: Project) -> set[str]:
    return project.would_run()


def test_dvc_alone_makes_stages_and_one_parent_run(project: Project, stages: set[str]) -> None:
    assert {
        "pretraining@luong",
        "pretraining@transformer",
        "prefix_tuning@prefix",
        "long_lag@task-3a",
        "report",
    } <= stages
    project.run("dvc", "repro", "encoding", "base_model")
    assert project.would_run() == stages - FIRST
    (parent,) = project.runs(parents=True)
    assert parent.info.status == "FINISHED"
    assert {r.data.tags["gradus.stage"] for r in project.runs(parents=False)} == FIRST
    assert {r.data.tags["mlflow.parentRunId"] for r in project.runs(parents=False)} == {parent.info.run_id}


def test_the_flow_makes_the_rest(project: Project, stages: set[str]) -> None:
    output = project.run("env", "GRADUS_PROGRESS_SECONDS=0", "gradus", "run")
    assert f"{len(stages)} stages, {len(FIRST)} up to date" in output
    assert re.search(r"pretraining@luong +█.*epoch ./2 .*tokens/s", output)
    assert re.search(r"pretraining@luong +done in 0:\d\d:\d\d\n", output)
    assert re.search(r"^translator +bleu +chrf +validation_perplexity$", output, re.MULTILINE), "a table of results"
    assert "Task run" not in output, "Prefect's log is in its UI alone"
    assert "report/index.html" in output
    assert project.would_run() == set()
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (project.folder / "artifacts").rglob("*") if p.is_file()}
    assert modes == {0o666 & ~UMASK}, "another user of the machine may read what the umask lets him read"


def test_every_stage_has_a_finished_run_with_what_one_wants_to_know(project: Project, stages: set[str]) -> None:
    parent = max(project.runs(parents=True), key=lambda r: r.info.start_time)
    assert parent.info.status == "FINISHED"
    children = {
        r.data.tags["gradus.stage"]: r
        for r in project.runs(parents=False)
        if r.data.tags["mlflow.parentRunId"] == parent.info.run_id
    }
    assert set(children) == stages - FIRST
    assert re.fullmatch(r"tiny-[0-9a-f]{7}-\d{4}-\d\d-\d\d-\d{4}", parent.info.run_name)
    metrics, note = parent.data.metrics, parent.data.tags["mlflow.note.content"]
    assert metrics.keys() >= {
        "translator.luong.bleu",
        "translator.transformer.validation_perplexity",
        "reward_model.grouped.accuracy",
        "prefix_tuning.prefix.bleu",
        "language_model.small.validation_perplexity",
        "long_lag.task-3a.solved_share",
    }
    assert metrics["translator.luong.bleu"] == children["evaluation@luong"].data.metrics["bleu"]
    assert "| `transformer` | " in note
    assert f"up to date: {', '.join(sorted(FIRST))}" in note
    for name, run in children.items():
        assert run.info.status == "FINISHED", name
        assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", run.data.tags["mlflow.source.git.commit"])
        assert run.data.tags["gradus.attempt"] == "1"
    luong = children["pretraining@luong"]
    assert luong.data.params["pretraining.architectures.luong.hidden_size"] == "32"
    assert {i.dataset.name for i in luong.inputs.dataset_inputs} == {"artifacts/encoded", "artifacts/tokenizer"}
    steps = [m.step for m in project.client().get_metric_history(luong.info.run_id, "train_loss")]
    assert len(steps) >= 2
    assert steps == sorted(set(steps))
    plots = {a.path for a in project.client().list_artifacts(children["report"].info.run_id)}
    assert {
        "index.html",
        "learning_curves.png",
        "reward_ours.png",
        "attention_luong.png",
        "prefix.png",
    } <= plots


def test_the_report_is_one_page_with_everything_in_it(project: Project) -> None:
    page = (project.folder / "report/index.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    for word in (
        "luong",
        "transformer",
        "copy of the source",
        "unigram model",
        "nrefs:",
        "length alone",
        "best possible",
        "No person judged them",
        "prefix",
    ):
        assert word in page, word
    png = (project.folder / "report/learning_curves.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert page.count("data:image/png;base64,") == 6


def test_the_collection_has_four_to_nine_responses_by_the_reference_labeler(project: Project) -> None:
    statistics = json.loads(project.run("gradus", "comparisons", "stats", "artifacts/comparisons/ours/rankings"))
    assert statistics["by_reference_labeler"] == statistics["rankings"] > 20
    assert all(4 <= int(k) <= 9 for k in statistics["responses_per_ranking"])
    project.run("gradus", "comparisons", "export", "artifacts/comparisons/ours/rankings", "--output", "out.jsonl")
    assert f"{statistics['rankings']} rankings, all valid" in project.run(
        "gradus", "comparisons", "validate", "out.jsonl"
    )
    project.run("gradus", "comparisons", "import", "out.jsonl", "--output", "again")
    assert json.loads(project.run("gradus", "comparisons", "stats", "again")) == statistics


def test_a_second_run_runs_nothing(project: Project, stages: set[str]) -> None:
    before = len(project.runs(parents=False))
    cpu = cpu_seconds()
    output = project.run("gradus", "run")
    assert cpu_seconds() - cpu < 5
    assert "has nothing to run" in output
    assert "report/index.html" in output
    assert f"{len(stages)} stages, {len(stages)} up to date" in output
    assert "Running stage" not in output
    code = "import sys, gradus.running; gradus.running.run('pretraining'); print({'prefect', 'mlflow', 'torch'} & {*sys.modules})"
    assert project.run(sys.executable, "-c", code).endswith("\nset()\n")
    assert len(project.runs(parents=False)) == before
    assert re.findall(r"Running stage '(.*)'", project.run("dvc", "repro")) == ["inputs"]


def test_a_change_re_runs_what_depends_on_it_and_nothing_else(project: Project) -> None:
    of_luong = {
        "pretraining@luong",
        "evaluation@luong",
        "responses@luong",
        "reference_comparisons@ours",
        "reward_model@grouped",
        "report",
    }
    for name, old, new, expected in (
        ("params.yaml", "collection: ours}", "collection: ours, weighting: labeler}", {"reward_model@grouped", "report"}),
        (
            "lightning_modules/translators/luong/model.py", "class Luong(Translator):", "class Luong(Translator):  # changed",
            of_luong,
        ),
        ("lightning_modules/translators/recurrence.py", "def run(", "def run(  # changed", of_luong),
        ("lightning_modules/translators/gated_unit.py", "class GatedUnit(", "class GatedUnit(  # changed", set()),
    ):  # fmt: skip
        original = (project.folder / name).read_text()
        project.change(name, old, new)
        changed = project.would_run()
        (project.folder / name).write_text(original)
        assert changed == expected, name
    assert project.would_run() == set()


def test_translate_gives_a_line_for_each_line_in_any_batch(project: Project) -> None:
    lines = ["Jesus wept.", "", "In the beginning God created the heaven and the earth.", "ünïcödé 🙂"]
    command = ("gradus", "translate", "--model", "artifacts/translators/luong")
    out = project.run(*command, stdin="\n".join(lines) + "\n").splitlines()
    assert len(out) == 4
    assert out[1] == ""
    assert project.run(*command, stdin=lines[0] + "\n").splitlines() == out[:1]
    best = project.run(*command, "--n-best", "2", "--beam-size", "3", stdin=lines[0] + "\n").splitlines()
    assert len(best) == 2
    assert all(re.match(r"-?\d+\.\d+\t", line) for line in best)
    assert "error: nowhere: no config.json in it" in project.run(*command[:3], "nowhere", stdin="x\n", expect=2)


def test_rank_and_generate_use_the_runs_models(project: Project) -> None:
    case = json.dumps({"prompt": "Jesus wept.", "responses": ["And Jesus himself was weeping.", "xyz"]})
    ranked = json.loads(project.run("gradus", "rank", "--model", "artifacts/reward_models/grouped", stdin=case + "\n"))
    assert len(ranked["rewards"]) == 2
    assert ranked["rewards"][ranked["order"][0]] == max(ranked["rewards"])
    assert 'line 1: expected {"prompt"' in project.run(
        "gradus", "rank", "--model", "artifacts/reward_models/grouped", stdin="{}\n", expect=2
    )
    model = ["--model", "artifacts/reward_models/grouped"]
    evaluated = json.loads(project.run("gradus", "evaluate-rankings", "artifacts/comparisons/ours/rankings", *model))
    collection = json.loads(project.run("gradus", "comparisons", "stats", "artifacts/comparisons/ours/rankings"))
    assert evaluated["comparisons"] == collection["strict_comparisons"]
    assert 0 <= evaluated["accuracy"] <= 1
    prefix = ["--prefix", "artifacts/prefix_tuning/prefix"]
    written = project.run(
        "gradus",
        "generate",
        "--model",
        "artifacts/base_models/smollm2",
        *prefix,
        "--max-new-tokens",
        "5",
        stdin="Jesus wept.\n\n",
    )
    first, empty, said = written.splitlines()
    assert first
    assert not empty
    assert said == "1 of 1 outputs are cut after 5 tokens (--max-new-tokens): no end token came before."
    refused = project.run(
        "gradus", "generate", "--model", "artifacts/language_models/small", *prefix, stdin="x\n", expect=2
    )
    assert "this prefix was trained on artifacts/base_models/smollm2" in refused


def test_a_killed_stage_leaves_no_output_and_completes_when_run_again(project: Project) -> None:
    project.change(
        "params.yaml", "weight_decay: 0.01, num_train_epochs: 1,", "weight_decay: 0.01, num_train_epochs: 15,"
    )
    dvc = project.start("dvc", "repro", "--single-item", "language_model@small")
    assert dvc.stdout
    for line in dvc.stdout:
        if "epoch 2:" in line:
            break
    (stage,) = [
        p
        for p in psutil.Process(dvc.pid).children(recursive=True)
        if "stages.language_model" in p.cmdline() and "python" in p.name()
    ]
    stage.send_signal(signal.SIGKILL)
    assert dvc.wait(60) != 0
    assert not (project.folder / "artifacts/language_models/small").exists()
    assert "language_model@small" in project.would_run()
    output = project.run("dvc", "repro", "--single-item", "language_model@small")
    assert "epoch 15:" in output
    assert (project.folder / "artifacts/language_models/small/model.safetensors").is_file()
    statuses = [
        r.info.status for r in project.runs(parents=False) if r.data.tags["gradus.stage"] == "language_model@small"
    ]
    assert sorted(statuses) == ["FINISHED", "FINISHED", "KILLED"]


def test_a_change_underneath_is_not_recorded_and_undone_the_training_continues(project: Project) -> None:
    lock = (project.folder / "dvc.lock").read_text()
    project.change("params.yaml", "decay: 0.01, num_train_epochs: 15,", "decay: 0.01, num_train_epochs: 14,")
    stage = ("env", "GRADUS_CHECKPOINT_SECONDS=0", "dvc", "repro", "--single-item", "language_model@small")
    dvc = project.start(*stage)
    assert dvc.stdout
    for line in dvc.stdout:
        if "epoch 2:" in line:
            break
    project.change("params.yaml", "decay: 0.01, num_train_epochs: 14,", "decay: 0.01, num_train_epochs: 2,")
    output = dvc.stdout.read()
    assert dvc.wait(60) != 0
    assert "params.yaml: language_models.small.training.num_train_epochs (was 14, is 2)" in output
    assert not (project.folder / "artifacts/language_models/small").exists()
    assert (project.folder / "dvc.lock").read_text() == lock
    project.change("params.yaml", "decay: 0.01, num_train_epochs: 2,", "decay: 0.01, num_train_epochs: 14,")
    output = project.run(*stage)
    assert "language_model@small: continues from" in output
    assert "epoch 1:" not in output


def test_a_failed_stage_fails_the_flow_and_only_what_depends_on_it(project: Project) -> None:
    project.change("params.yaml", "none: {kind: none}", "none: {kind: none, seed: 3}")
    bad = project.folder / "labeled" / "bad.jsonl"
    bad.write_text(json.dumps({"prompt": "p", "responses": ["only one"], "ranks": [1], "labeler": "ann"}) + "\n")
    assert {"reference_comparisons@ours", "prefix_tuning@none"} <= project.would_run()
    output = project.run("gradus", "run", expect=1)
    assert "stage reference_comparisons@ours failed" in output
    assert "labeled/bad.jsonl:1: responses: K = 1, a ranking needs at least 2 responses" in output
    assert project.would_run() == {"reference_comparisons@ours", "reward_model@grouped", "report"}
    assert max(project.runs(parents=True), key=lambda r: r.info.start_time).info.status == "FAILED"

    bad.write_text(
        json.dumps({"prompt": "Jesus wept.", "responses": ["He wept.", "No"], "ranks": [1, 2], "labeler": "ann"}) + "\n"
    )
    assert "no flow 'comparison_imports' - did you mean 'comparison_import'?" in project.run(
        "gradus", "run", "comparison_imports", expect=2
    )
    assert re.search(r"reference_comparisons@ours +done in 0:", project.run("gradus", "run", "comparison_import"))
    assert project.would_run() == {"reward_model@grouped", "report"}  # a part runs alone
    metrics = max(project.runs(parents=True), key=lambda r: r.info.start_time).data.metrics
    assert "translator.luong.bleu" in metrics, "what was up to date counts"
    assert "reward_model.grouped.accuracy" not in metrics, "what is out of date does not"
    statistics = json.loads(project.run("gradus", "comparisons", "stats", "artifacts/comparisons/ours/rankings"))
    assert statistics["rankings"] == statistics["by_reference_labeler"] + 1
    assert statistics["origins"]["bad.jsonl"] == 1


def test_wrong_settings_stop_the_run_before_anything_is_done(project: Project) -> None:
    original, pending = (project.folder / "params.yaml").read_text(), project.would_run()
    (project.folder / "params.yaml").write_text(original + "\nrewrad_models: {}\n")
    assert "params.yaml: unknown key 'rewrad_models' - did you mean 'reward_models'?" in project.run(
        "gradus", "run", expect=2
    )
    (project.folder / "params.yaml").write_text(original.replace("vocab_size: 600", "vocab_size: 600, vocab: 1"))
    output = project.run("dvc", "repro", expect=255)
    assert "inputs: error: params.yaml: unknown key 'tokenizer.vocab' - did you mean 'vocab_size'?" in output
    (project.folder / "params.yaml").write_text(original)
    assert project.would_run() == pending
