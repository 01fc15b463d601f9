"""Named settings."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from core import experiments
from core.errors import InputError
from data import mirror
from gradus.cli import app
from gradus.pipeline import write_params
from stages.framework.params import check_params

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PROJECT / "experiments", tmp_path / "experiments")
    shutil.copy(PROJECT / "experiments" / "default.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)


def test_the_committed_params_are_the_default_experiment() -> None:
    assert (PROJECT / "params.yaml").read_text() == (PROJECT / "experiments" / "default.yaml").read_text()


@pytest.mark.parametrize("name", [p.stem for p in (PROJECT / "experiments").glob("*.yaml")])
def test_every_experiment_is_valid_and_has_its_sections_alone(name: str) -> None:
    write_params(name, force=False)
    values = yaml.safe_load(Path("params.yaml").read_text())
    check_params(values, name)
    assert set(values) == set(yaml.safe_load(Path(f"experiments/{name}.yaml").read_text()))
    assert write_params("default", force=False)
    assert Path("params.yaml").read_text() == Path("experiments/default.yaml").read_text()


def test_a_matrix_has_a_variant_for_each_cell() -> None:
    lines = Path("experiments/e2e_low_data.yaml").read_text().splitlines()
    assert len(lines) < 15
    write_params("e2e_low_data", force=False)
    variants = yaml.safe_load(Path("params.yaml").read_text())["prefix_tuning"]["variants"]
    counts, seeds = (50, 100, 200, 500), (1, 2, 3)
    assert list(variants) == [f"{way}_{n}_{s}" for way in ("words", "random", "full") for n in counts for s in seeds]
    epochs = {50: 4, 100: 2, 200: 1, 500: 1}
    for name, variant in variants.items():
        way, count, seed = name.split("_")
        assert (variant["examples"], variant["seed"]) == (int(count), int(seed))
        assert variant["training"] == {
            "optimizer": "adamw", "betas": [0.9, 0.98], "learning_rate": 0.00003 if way == "full" else 0.0005, "lr_scheduler_type": "linear",
            "warmup_steps": 5, "num_train_epochs": epochs[int(count)], "batch_tokens": 256, "precision": "bf16-mixed",
        }  # fmt: skip
        assert variant["kind"] == ("full" if way == "full" else "prefix")
        assert ("prompt_tuning_init_text" in variant) == (way == "words")


@pytest.mark.parametrize("matrix", ["3", "{seed: 3}", "{seed: []}", "{}", "{seed: [1, 1]}"])
def test_a_wrong_matrix_is_named(matrix: str) -> None:
    with pytest.raises(InputError, match=r"reward_models\.variants.*matrix"):
        write_params("tiny", force=False, changes=[f"reward_models.variants.grouped.matrix={matrix}"])


def test_settings_are_changed_on_the_way() -> None:
    write_params("wmt15", force=False, changes=["comparisons.people.imports.0.source=mine.jsonl", "seed=7"])
    values = yaml.safe_load(Path("params.yaml").read_text())
    assert (values["seed"], values["comparisons"]["people"]["imports"][0]["source"]) == (7, "mine.jsonl")
    assert experiments.current() == "wmt15+edits"
    write_params("tiny", force=False)  # the command line had these changes: nothing is lost
    for change, problem in {
        "seed": "KEY=VALUE expected",
        "comparisons.people.imports.9.source=x": "'9' is no position in a list of 1",
        "seed.x=1": "'seed' is neither a mapping nor a list",
        "seed.x.y=1": "there is nothing below the value 1 that 'x' could name",
        "seed=[": "the value is not YAML",
        "tokenizer.bpe.vocab=1": "unknown key",
    }.items():
        with pytest.raises(InputError, match=re.escape(problem)):
            write_params("wmt15", force=False, changes=[change])


def test_a_new_experiment_is_another_with_changes() -> None:
    assert (
        CliRunner()
        .invoke(app, ["new", "mine", "--from", "wmt15", "--set", "reward_models.common.batch_size=8"])
        .exit_code
        == 0
    )
    write_params("mine", force=False)
    given, changed = (yaml.safe_load(Path(f"experiments/{name}.yaml").read_text()) for name in ("wmt15", "mine"))
    given["reward_models"]["common"]["batch_size"] = 8
    assert changed == given
    assert experiments.current() == "mine"
    again = CliRunner().invoke(app, ["new", "mine"])
    assert again.exit_code == 2
    assert "experiments/mine.yaml: it exists" in again.output


def test_edits_of_the_users_own_are_not_overwritten() -> None:
    edited = Path("params.yaml").read_text().replace("vocab_size: 4000", "vocab_size: 4001")
    Path("params.yaml").write_text(edited)
    with pytest.raises(InputError, match=r"params\.yaml has settings that no file of experiments/ gives"):
        write_params("tiny", force=False)
    assert Path("params.yaml").read_text() == edited
    write_params("tiny", force=True)


def test_unknown_and_wrong_experiments() -> None:
    with pytest.raises(InputError, match=r"did you mean 'multi30k'\?"):
        write_params("multi30", force=False)
    Path("experiments/wrong.yaml").write_text("format: 3\nseed: 1\ntokenizer: {bpe: {vocabluary: 3}}\n")
    with pytest.raises(InputError, match=r"experiments/wrong\.yaml: unknown key 'tokenizer\.vocabluary'"):
        write_params("wrong", force=False)
    assert Path("params.yaml").read_text() == Path("experiments/default.yaml").read_text()


def test_the_current_experiment_is_named_and_so_are_edits_of_it() -> None:
    assert experiments.current() == "default"
    write_params("tiny", force=False)
    assert experiments.current() == "tiny"
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text + "# a comment changes nothing\n")
    assert experiments.current() == "tiny"
    Path("params.yaml").write_text(text.replace("seed: 1", "seed: 2"))
    assert experiments.current() == "tiny+edits"
    Path("experiments/tiny.yaml").unlink()
    assert experiments.current() == "tiny+edits"


def test_the_listing_has_a_line_for_each() -> None:
    lines = experiments.listing().splitlines()
    assert len(lines) == 2 * len(list(Path("experiments").glob("*.yaml"))) + 1
    assert "runs: long_lag" in lines[lines.index(next(line for line in lines if line.startswith("  long_lag"))) + 1]
    assert [line.split()[1] for line in lines if line.startswith("*")] == ["default"]
    assert any(line.startswith("  multi30k") and "English to German" in line for line in lines)


def test_the_mirror_is_remembered_for_the_commands_that_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mirror" / "multi30k").mkdir(parents=True)
    monkeypatch.delenv("GRADUS_DATA", raising=False)
    assert mirror.folder("multi30k") is None
    monkeypatch.setenv("GRADUS_DATA", "mirror")
    assert "remembered" in write_params("multi30k", force=False)
    monkeypatch.delenv("GRADUS_DATA")
    assert mirror.folder("multi30k") == tmp_path / "mirror" / "multi30k"
