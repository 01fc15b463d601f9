"""What a command says of errors that are not its own."""

from pathlib import Path

import pytest
import typer

from gradus.errors import taught_errors


def test_an_error_of_the_file_system_is_said_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    for fails, said in (
        (lambda: Path("/dev/full").write_text("a"), "error: No space left on device.\n"),
        (lambda: (file / "folder").mkdir(), f"error: {file}/folder: Not a directory.\n"),
    ):
        with pytest.raises(typer.Exit) as ended, taught_errors():
            fails()
        assert ended.value.exit_code == 2
        assert capsys.readouterr().err == said


def test_an_error_that_nobody_foresaw_is_one_line_with_its_traceback_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(typer.Exit) as ended, taught_errors():
        {"a": 1}["b\n" + "long" * 1000]
    assert ended.value.exit_code == 1
    (file,) = tmp_path.iterdir()
    error = capsys.readouterr().err
    assert error.startswith("error: KeyError: 'b")
    assert error.endswith(f"(not foreseen; the traceback is in {file})\n")
    assert len(error.splitlines()) == 1
    assert len(error) < 500
    assert "Traceback (most recent call last)" in file.read_text(encoding="utf-8")


def test_what_ends_a_command_on_purpose_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    for purpose in (typer.Exit(3), typer.BadParameter("no"), KeyboardInterrupt()):
        with pytest.raises(type(purpose)), taught_errors():
            raise purpose
    assert capsys.readouterr().err == ""
