"""Standard input as it should not be, before any model reads it; what models make of it is in the commands' tests."""

import os
import subprocess
import sys
from pathlib import Path

from gradus.inference.input_lines import MAX_BYTES, line_groups


def test_a_line_that_is_too_long_and_not_utf_8_is_said_to_be_both(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes(b"\xff" * MAX_BYTES + b"a\nb\n")
    stream = os.open(file, os.O_RDONLY)
    lines = [line for group in line_groups(stream, 2) for line in group]
    os.close(stream)
    assert [line.text for line in lines] == ["\ufffd" * MAX_BYTES, "b"]
    assert [line.problem for line in lines] == [
        "longer than 1,048,576 bytes: the rest was left out; "
        "not UTF-8 (invalid start byte at byte 0): such bytes were read as U+FFFD",
        None,
    ]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("hi\nhi\n", encoding="utf-8-sig")
    stream = os.open(file, os.O_RDONLY)
    assert [line.text for group in line_groups(stream, 1) for line in group] == ["hi", "hi"]
    os.close(stream)


def test_a_closed_standard_input_is_an_error() -> None:
    command = [sys.executable, "-m", "gradus.cli", "rank", "--model", "nowhere"]
    result = subprocess.run(["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command], capture_output=True, text=True)
    assert result.returncode == 2
    assert "standard input: it is closed" in result.stderr
