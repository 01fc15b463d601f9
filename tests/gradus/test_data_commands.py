"""`gradus data` as it is typed."""

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from data.originals.table import ORIGINALS, File
from gradus.data import app


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRADUS_DATA", raising=False)


def run(command: str, expect: int = 0) -> Result:
    result = CliRunner().invoke(app, command.split(), catch_exceptions=False)
    assert result.exit_code == expect, result.output
    return result


def test_fetch_says_what_came_and_under_which_terms(
    served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place, address = served
    files = []
    for original in ORIGINALS["multi30k"].files:
        content = gzip.compress(b"A line.\n")
        (place / original.name).write_bytes(content)
        files.append(File(f"{address}/{original.name}", len(content), hashlib.sha256(content).hexdigest()))
    monkeypatch.setitem(ORIGINALS, "multi30k", replace(ORIGINALS["multi30k"], files=tuple(files)))

    output = run("fetch multi30k --output data").output
    assert f"{tmp_path}/data/multi30k: train 1  validation 1  test 1" in output
    assert "licence: CC BY-NC-SA 4.0" in output
    assert f"To use it: export GRADUS_DATA={tmp_path}/data" in output
    assert (
        "exists already. Leave the name out, or replace the folder with --force."
        in run("fetch multi30k --output data", 2).output
    )

    monkeypatch.setenv("GRADUS_DATA", "data")  # a mirror that is named is used, and needs no export
    assert "To use it" not in run("fetch multi30k --force").output
    assert f"in {tmp_path}/data" in run("list").output


def test_without_a_network_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("NO_PROXY", "")
    output = run("fetch e2e --output data", 2).output
    assert output.startswith("error: raw.githubusercontent.com cannot be reached")
    assert output.count("\n") == 1
    assert not list(Path("data").iterdir())


def test_fetch_needs_a_folder_and_a_name_that_it_knows() -> None:
    assert "No folder is named. Name one with --output, or in GRADUS_DATA." in run("fetch e2e", 2).output
    assert "no such data set. Known are: multi30k, e2e, wmt15" in run("fetch snli --output data", 2).output


def test_list_has_addresses_checksums_and_terms() -> None:
    output = run("list").output
    for original in ORIGINALS.values():
        assert original.licence in output
        assert all(file.address in output and (file.sha256 or "not published") in output for file in original.files)
