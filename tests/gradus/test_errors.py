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
