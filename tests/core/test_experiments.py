"""Named settings."""

import shutil
from pathlib import Path

import pytest
import yaml

from core import experiments
from core.errors import InputError
from data import mirror
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
def test_every_experiment_is_valid_and_keeps_what_it_does_not_name(name: str) -> None:
    write_params(name, force=False)
    values = yaml.safe_load(Path("params.yaml").read_text())
    check_params(values, name)
    given = yaml.safe_load(Path(f"experiments/{name}.yaml").read_text())
    default = yaml.safe_load(Path("experiments/default.yaml").read_text())
    assert set(values) == set(default)
    assert all(values[section] == default[section] for section in default if section not in given)
    assert write_params("default", force=False)
    assert Path("params.yaml").read_text() == Path("experiments/default.yaml").read_text()


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
    Path("experiments/wrong.yaml").write_text("tokenizer: {vocabluary: 3}\n")
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
    assert len(lines) == len(list(Path("experiments").glob("*.yaml"))) + 1
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
