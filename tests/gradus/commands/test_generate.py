"""`gradus generate` and `gradus register` with a prefix."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from core import tracking
from core.errors import InputError
from data.tokenizer import BEGIN, END, PAD
from data.tokenizer_training import TokenizerConfig, train_tokenizer
from gradus.cli import app
from gradus.inference.generate import ONLY, ContinuedLines
from gradus.inference.input_lines import Line, line_groups
from gradus.serving.register import register
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.prefix import build_adapter
from model_io.prefix import save_prefix

LINES = ["the mill serves food", "", "a pub near the river", "food food", "the river"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(
            ["the mill serves food near the river pub a"], TokenizerConfig(vocab_size=300)
        ),
        pad_token="<pad>",
        eos_token="</s>",
    )
    config = LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END,
    )  # fmt: skip
    base = AutoModelForCausalLM.from_config(config).eval()
    for weights in base.parameters():
        weights.data.mul_(8) if weights.dim() > 1 else None
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "prefix").mkdir()
    adapter = build_adapter("prefix", base, PrefixConfig(num_virtual_tokens=4, prefix_projection=False), [5, 6, 7, 8])
    save_prefix(tmp_path / "prefix", "prefix", adapter, tmp_path / "base", "say {source}:")
    return tmp_path / "base", tmp_path / "prefix"


def another_prefix(model: Path) -> Path:
    base = AutoModelForCausalLM.from_pretrained(model)
    folder = model.parent / "another"
    folder.mkdir()
    settings = PrefixConfig(num_virtual_tokens=2, prefix_projection=False)
    save_prefix(folder, "prompt_tuning", build_adapter("prompt_tuning", base, settings, [9, 10]), model, "{source} is")
    return folder


def generated(folders: tuple[Path, Path], lines: list[str], *options: str, code: int = 0) -> str:
    return answer(folders[0], lines, "--prefix", str(folders[1]), *options, code=code)


def answer(model: Path, lines: list[str], *options: str, code: int = 0) -> str:
    arguments = ["generate", "--model", str(model), "--max-new-tokens", "6", *options]
    file, output = model.parent / "lines.txt", io.TextIOWrapper(io.BytesIO(), "ascii", "backslashreplace")
    file.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    with file.open() as stdin, pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.stdin", stdin)
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            app(arguments)
    output.flush()
    written = output.buffer.getvalue().decode()
    assert (ended.value.code or 0) == code, written
    return "".join(
        line for line in written.splitlines(keepends=True) if "outputs are cut" not in line
    )  # most here are, untrained as the base is


def continued(folders: tuple[Path, Path], **options: object) -> ContinuedLines:
    return ContinuedLines(folders[0], {ONLY: folders[1]}, options, print)


def numbered(lines: list[str]) -> list[Line]:
    return [Line(number, line, None) for number, line in enumerate(lines, start=1)]


@pytest.mark.parametrize("options", [[], ["--beam-size", "3", "--length-penalty", ".9"], ["--sample", "--seed", "3"]])
def test_lines_in_order_whatever_the_batch(folders: tuple[Path, Path], options: list[str]) -> None:
    together = generated(folders, LINES, *options).splitlines()
    assert len(together) == len(LINES)
    assert together[1] == ""
    assert len(set(together)) > 2
    assert generated(folders, LINES, *options, "--batch-size", "2").splitlines() == together


@pytest.mark.parametrize("options", [[], ["--beam-size", "3"], ["--sample"]])
def test_lines_that_name_their_prefix_get_what_it_gives_alone(folders: tuple[Path, Path], options: list[str]) -> None:
    model, one = folders
    two = another_prefix(model)
    both = [*options, "--prefix", f"one={one}", "--prefix", f"two={two}"]
    lines = ["one\tthe mill", "two\tthe mill", "", "two\ta pub near the river", "one\tfood", "two\t"]
    texts_written = answer(model, lines, *both).splitlines()
    texts = [line.partition("\t")[2] for line in lines]
    alone = {
        name: generated((model, folder), texts, *options).splitlines() for name, folder in [("one", one), ("two", two)]
    }
    assert texts_written == [alone[line.partition("\t")[0] or "one"][i] for i, line in enumerate(lines)]
    assert texts_written[2] == texts_written[5] == ""
    assert texts_written[0] != texts_written[1]
    assert answer(model, lines, *both, "--batch-size", "2").splitlines() == texts_written


def test_wrong_names_of_prefixes_are_named_after_the_lines_before_them(folders: tuple[Path, Path]) -> None:
    model, one = folders
    named, first = ["--prefix", f"one={one}"], generated(folders, ["the mill"])
    unknown = answer(model, ["one\tthe mill", "onw\tthe mill"], *named, code=2)
    assert unknown.startswith(first)
    assert "standard input, line 2: unknown prefix 'onw' - did you mean 'one'" in unknown
    assert "line 2: no tab" in answer(model, ["one\tthe mill", "the mill"], *named, code=2)
    assert "line 1: no tab" in answer(model, ["the mill"], *named, code=2)
    assert "line 1: unknown prefix" in answer(model, ["onw\tthe mill"], *named, code=2)
    assert "a name of its own" in answer(model, [], *named, "--prefix", str(one), code=2)
    assert "a name of its own" in answer(model, [], *named, *named, code=2)


def test_outputs_that_are_cut_are_counted(folders: tuple[Path, Path]) -> None:
    said: list[str] = []
    continued = ContinuedLines(folders[0], {ONLY: folders[1]}, {"max_new_tokens": 6}, said.append)
    continued.end = -1  # no token ends an output
    assert len(list(continued([numbered(LINES[:3]), numbered(LINES[:1])]))) == 4
    assert said == ["3 of 3 outputs are cut after 6 tokens (--max-new-tokens): no end token came before."]
    said.clear()
    with pytest.raises(InputError, match="line 2"):
        list(continued([numbered([LINES[0], "the mill " * 200])]))
    assert said == ["1 of 1 outputs are cut after 6 tokens (--max-new-tokens): no end token came before."]


def test_the_first_output_comes_while_the_pipe_is_open(folders: tuple[Path, Path]) -> None:
    reading, writing = os.pipe()
    os.write(writing, f"{LINES[0]}\n".encode())
    written = continued(folders, max_new_tokens=3)(line_groups(reading, 16))
    first = next(written)  # it would wait for ever for what is not there
    os.write(writing, f"{LINES[0]}\n".encode())
    os.close(writing)
    assert list(written) == [first]
    os.close(reading)


def test_a_line_that_is_too_long_is_named_after_those_before_it(folders: tuple[Path, Path]) -> None:
    output = generated(folders, [*LINES[:2], "food " * 80, "a"], code=2)
    assert "standard input, line 3:" in output
    assert "takes 54: its 64 positions less 4 virtual tokens and 6 new ones" in output
    assert output.startswith(generated(folders, LINES[:2]))
    assert "standard input, line 2: not UTF-8" in generated(folders, ["a", "caf\udce9"])
    assert generated(folders, [""]) == "\n"
    assert "standard input, line 1: 405 tokens" in generated(folders, ["food " * 80], code=2)
    for option in ("--seed", "--temperature", "--top-p"):
        assert f"{option} is for --sample" in generated(folders, ["a"], option, "1", code=2)
    assert "--length-penalty ranks hypotheses of a beam" in generated(folders, ["a"], "--length-penalty", "1", code=2)
    assert "options: seed" in generated(folders, ["a"], "--sample", "--seed", "-1", code=2)
    for penalty in ("nan", "200", "-6"):
        assert "options: length_penalty" in generated(
            folders, ["a"], "--beam-size", "2", "--length-penalty", penalty, code=2
        )
    assert "options: temperature" in generated(folders, ["a"], "--sample", "--temperature", "1e-40", code=2)
    assert "leave no room for an input" in generated(folders, LINES, "--max-new-tokens", "60", code=2)


def test_mlflow_serves_a_registered_prefix(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import pandas as pd

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    tracking.client.cache_clear()
    assert register(folders[1]) == "prefix/1"
    served = mlflow.pyfunc.load_model("models:/prefix/1")
    lines = [*LINES, " \t", "  a pub near the river \r\n"]

    def answers(sources: list[str], most: int = 6, beam: int = 3) -> object:
        return served.predict(pd.DataFrame({"source": sources}), params={"max_new_tokens": most, "beam_size": beam})

    written = answers(lines)
    assert written == list(continued(folders, max_new_tokens=6, beam_size=3)([numbered(lines)]))
    assert isinstance(written, list)
    assert written[1] == written[5] == ""
    assert written[6] == written[2] != ""

    alone = continued(folders, max_new_tokens=6)
    longest = 0
    for letters in range(40, 60):  # the same longest line, and the same text for it
        line = "q" * letters
        try:
            expected = list(alone([numbered([line])]))
        except InputError:
            break
        assert answers([line], beam=1) == expected
        longest = letters
    assert 40 <= longest < 59
    with pytest.raises(
        ValueError, match=r"row 2: 55 tokens with its template, but the base takes 54: its 64 positions"
    ):
        answers(["a", "q" * (longest + 1), "a"])
    with pytest.raises(ValueError, match="a prefix of 4 virtual tokens and 60 new tokens leave no room for an input"):
        answers(["a"], most=60)
    tracking.client.cache_clear()


def test_a_base_that_went_elsewhere_is_named(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    tracking.client.cache_clear()
    moved = folders[0].rename(tmp_path / "moved")
    with pytest.raises(InputError, match="Name its folder in GRADUS_BASE_MODEL"):
        register(folders[1])
    monkeypatch.setenv("GRADUS_BASE_MODEL", str(moved))
    assert register(folders[1], "mine") == "mine/1"
    tracking.client.cache_clear()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("template", "say {x}", "template"),
        ("template", "say {{source}}", "template"),
        ("position", "middle", "prefix or infix"),
    ],
)
def test_a_damaged_prefix_json_is_named(folders: tuple[Path, Path], key: str, value: str, expected: str) -> None:
    path = folders[1] / "prefix.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    output = generated(folders, ["a"], code=2)
    assert str(path) in output
    assert expected in output


def test_a_command_that_only_writes_loads_no_library_for_data_or_training() -> None:
    """They are a third of its memory before it has a model."""
    code = "import sys, gradus.inference.generate; print(*{'datasets', 'pandas', 'pytorch_lightning', 'mlflow'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split() == []
