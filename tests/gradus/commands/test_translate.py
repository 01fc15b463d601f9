"""`gradus translate` as users run it: pipes that stay open, input that is not as it should be."""

import io
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest
import torch
from typer.testing import CliRunner

from core.errors import InputError
from data.tokenizer import encode, load_tokenizer
from data.tokenizer_training import TokenizerConfig, save_tokenizer, train_tokenizer
from gradus.cli import app
from lightning_modules.decoding.translation import Ensemble, log_probabilities
from lightning_modules.translators.bahdanau.model import Bahdanau, BahdanauConfig
from lightning_modules.translators.base import Translator, TranslatorConfig
from lightning_modules.translators.gru.model import GRU, GRUConfig
from lightning_modules.translators.luong.model import Luong, LuongConfig
from lightning_modules.translators.transformer.model import Transformer, TransformerConfig
from model_io.translator import load_translator, save_translator

PROJECT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
TEXT = [
    "In the beginning God created the heaven and the earth.",
    "And God said, Let there be light: and there was light.",
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small translators with random weights: `bpe/NAME` share a tokenizer, `words/luong` has a vocabulary of words."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(5)
    for kind in ("bpe", "words"):
        settings = TokenizerConfig(kind=kind, vocab_size=300 if kind == "bpe" else 18, min_frequency=1)
        save_tokenizer(train_tokenizer(TEXT, settings), root / kind)
        types = load_tokenizer(root / kind).get_vocab_size()
        made: dict[str, tuple[type[Translator], TranslatorConfig]] = {
            "transformer": (Transformer, TransformerConfig(num_layers=1, hidden_size=16, ff_size=16, num_heads=2)),
            "luong": (Luong, LuongConfig(embedding_dim=8, hidden_size=12, init=0.6)),
            "location": (
                Luong,
                LuongConfig(embedding_dim=8, hidden_size=12, init=0.6, score="location", max_source_length=9),
            ),
            "bahdanau": (Bahdanau, BahdanauConfig(embedding_dim=8, hidden_size=12, attention_size=8, maxout_size=8)),
            "gru": (GRU, GRUConfig(embedding_dim=8, hidden_size=12, maxout_size=8)),
        }
        for name, (architecture, sizes) in made.items():
            module = name if name != "location" else "luong"
            (root / kind / name).mkdir()
            model = architecture(sizes, types)  # type: ignore[call-arg]
            for parameter in model.parameters():
                torch.nn.init.uniform_(parameter, -0.6, 0.6)
            save_translator(root / kind / name, module, model, sizes, root / kind)
    return root


def run(*options: object, stdin: bytes | str = "", expect: int = 0) -> tuple[list[str], str]:
    """Lines of standard output, and standard error; in this process, which has read the libraries already."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with tempfile.TemporaryFile() as file, redirect_stdout(out), redirect_stderr(err), patch.object(sys, "stdin", file):
        file.write(stdin.encode() if isinstance(stdin, str) else stdin)
        file.seek(0)
        with pytest.raises(SystemExit) as ended:
            app(arguments(*options))
    written, said = (stream.detach().getvalue().decode() for stream in (out, err))
    assert ended.value.code == expect, said
    return written.split("\n")[:-1], said


def arguments(*options: object) -> list[str]:
    name = () if options and options[0] == "rank" else ("translate",)
    return [*name, *map(str, options)]


def command(*options: object) -> list[str]:
    return [sys.executable, "-m", "gradus.cli", *arguments(*options)]


def test_every_line_gives_a_line_whatever_is_in_it(models: Path) -> None:
    lines = [
        b"In the beginning",
        b"",
        b"   ",
        b"caf\xe9 and light",
        "\u2028 light\x0b\x85 there".encode(),
        b"light " * 300,
        b"a\r",
    ]
    model = ("--model", models / "bpe/transformer", "--beam-size", 2, "--max-length", 20)
    written, warnings = run(*model, stdin=b"\n".join([*lines, b"no end"]))
    assert len(written) == len(lines) + 1
    assert written[1] == written[2] == ""
    assert "line 4: not UTF-8 (invalid continuation byte at byte 3): such bytes were read as U+FFFD." in warnings
    assert re.search(r"line 6: [\d,]+ tokens, of which the first 20 were read\.", warnings)
    assert warnings.count("standard input, line") == 2
    again, _ = run(*model, stdin="caf\ufffd and light\n" + "light " * 40 + "\n")
    assert again[0] == written[3]
    assert run(*model, stdin=b"")[0] == []
    three, _ = run(*model, "--n-best", 2, stdin=b"\nlight\n")
    assert [line.split("\t")[0] for line in three[:2]] == ["0.0000", "0.0000"]
    assert len(three) == 4
    assert float(three[2].split("\t")[0]) >= float(three[3].split("\t")[0])


def test_an_overlong_line_is_dropped_where_that_is_asked_for(models: Path) -> None:
    model = ("--model", models / "words/luong", "--max-length", 3, "--beam-size", 2)
    light, _ = run(*model, stdin="light\n")
    written, warnings = run(*model, "--overlong", "drop", stdin="light light light light\nlight\n")
    assert written == ["", *light]
    assert "line 1: 4 tokens, dropped." in warnings


def test_a_model_with_a_limit_reads_as_far_as_it_can(models: Path) -> None:
    text = " ".join(["light"] * 12)
    written, warnings = run("--model", models / "words/location", stdin=f"{text}\nlight\n")
    assert len(written) == 2
    assert "line 1: 12 tokens, of which the first 8 were read" in warnings
    assert written[0] == run("--model", models / "words/location", stdin=" ".join(["light"] * 8) + "\n")[0][0]


def test_products_in_bf16_where_the_device_has_it(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ("--model", models / "bpe/luong", "--beam-size", 2, "--json")
    for has_it in (True, False):
        monkeypatch.setattr("gradus.inference.translate.has_bf16", lambda device, has_it=has_it: has_it)
        (line,), said = run(*model, "--precision", "bf16-mixed", stdin="In the beginning\n")
        assert ("bf16-mixed: this device does not have it" in said) == (not has_it)
        (single,), _ = run(*model, stdin="In the beginning\n")
        scores = [json.loads(text)["translations"][0]["score"] for text in (line, single)]
        assert scores[0] == pytest.approx(scores[1], rel=0.05)
    _, said = run(*model, "--precision", "half", stdin="light\n", expect=2)
    assert "precision" in said
    assert "'32-true', 'bf16-mixed'" in said


def test_a_command_that_only_translates_loads_no_library_for_data_or_training() -> None:
    """They take longer to start than a sentence to translate, and more memory than a model."""
    modules = "{'datasets', 'pandas', 'pytorch_lightning', 'transformers', 'mlflow'}"
    code = f"import sys, gradus.inference.translate; print(*{modules} & {{*sys.modules}})"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=ENVIRONMENT).stdout.split()
        == []
    )


def test_output_comes_before_the_input_has_ended(models: Path) -> None:
    process = subprocess.Popen(
        command("--model", models / "bpe/luong", "--beam-size", 2),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        bufsize=0,  # a buffer would hold lines that `select` does not see
    )
    assert process.stdin
    assert process.stdout
    for count in (1, 3, 1):  # each group is answered while the pipe stays open
        process.stdin.write(b"And God said\n" * count)
        answered = [answer(process) for _ in range(count)]
        assert len(set(answered)) == 1
    process.stdin.close()
    assert process.stdout.read() == b""
    assert process.wait(60) == 0


def answer(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.stdout
    assert select.select([process.stdout], [], [], 120)[0], "no output while the input is open"
    return process.stdout.readline()


def test_memory_stays_flat_while_lines_come(models: Path) -> None:
    process = subprocess.Popen(
        command("--model", models / "bpe/gru", "--beam-size", 1),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        bufsize=0,
    )
    assert process.stdin
    used = []
    for _ in range(6):
        for _ in range(16):
            process.stdin.write(b"light\n" * 256)
            for _ in range(256):
                answer(process)
        used.append(psutil.Process(process.pid).memory_info().rss)
    process.stdin.close()
    assert process.wait(60) == 0
    assert used[-1] - used[2] < 20 << 20, used


def test_a_line_without_an_end_does_not_fill_the_memory(models: Path) -> None:
    model = ("--model", models / "bpe/gru", "--beam-size", 1)
    few, _, _ = measured(*model, stdin=b"light\n" * 2)
    peak, written, warnings = measured(*model, stdin=b"x" * (256 << 20) + b"\nlight\n")
    assert len(written) == 2
    assert "line 1: longer than 1,048,576 bytes: the rest was left out" in warnings
    assert peak < few + 250, (few, peak)  # MB


def test_long_lines_are_translated_in_bounded_memory_and_time(models: Path) -> None:
    line = b"light the earth, " * 60_000  # 1 MB
    options = ("--model", models / "bpe/luong", "--beam-size", 3, "--n-best", 3, "--alignments", "--max-length", 20)
    one, expected, _ = measured(*options, stdin=line + b"\n")
    started = time.monotonic()
    peak, written, warnings = measured(*options, stdin=(line + b"\n") * 8)  # all there at once
    assert time.monotonic() - started < 120  # not milliseconds for each of a million tokens and hypotheses
    assert written == expected * 8
    assert warnings.count("of which the first 20 were read") == 8
    assert peak < one + 200, (one, peak)


def measured(*options: object, stdin: bytes) -> tuple[int, list[str], str]:
    """The most memory that the command used, in MB, and what it wrote to its standard output and error."""
    program = (
        "import atexit, sys; from benchmarks import memory; from gradus.cli import app; "
        "atexit.register(lambda: print(memory.peak(), file=sys.stderr)); app()"
    )
    with tempfile.TemporaryFile() as file:  # a pipe would hand the lines over bit by bit
        file.write(stdin)
        file.seek(0)
        done = subprocess.run(
            [sys.executable, "-c", program, "translate", *map(str, options)],
            stdin=file, capture_output=True, env=ENVIRONMENT, timeout=300, check=True,
        )  # fmt: skip
    *errors, peak = done.stderr.decode().splitlines()
    return int(peak), done.stdout.decode().split("\n")[:-1], "\n".join(errors)


def test_json_shows_alignments_of_each_hypothesis(models: Path) -> None:
    names = ("transformer", "luong", "bahdanau", "gru")
    ensemble = [option for name in names for option in ("--model", models / "bpe" / name)]
    written, _ = run(*ensemble, "--n-best", 3, "--json", "--alignments", stdin="And God said\n\n")
    first, empty = map(json.loads, written)
    assert first["source"] == "And God said"
    assert first["problem"] is None
    assert len(first["translations"]) == 3
    for t in first["translations"]:
        assert len(t["attention"]) == len(t["tokens"]) + 1
        assert {len(row) for row in t["attention"]} == {len(t["source_tokens"]) + 1}
        words = len(t["text"].split())
        assert {s for s, _ in t["alignment"]} <= {0, 1, 2}
        assert [i for _, i in t["alignment"]] == list(range(words))
    none: dict[str, list[object]] = {"alignment": [], "source_tokens": [], "tokens": [], "attention": []}
    assert empty["translations"] == [{"text": "", "score": 0.0, **none}]
    plain, _ = run(*ensemble, "--n-best", 3, "--alignments", stdin="And God said\n")
    pairs = [" ".join(f"{s}-{t}" for s, t in h["alignment"]) for h in first["translations"]]
    assert [line.split("\t") for line in plain] == [
        [f"{h['score']:.4f}", h["text"], p] for h, p in zip(first["translations"], pairs, strict=True)
    ]


def test_unknown_words_are_written_as_the_aligned_source_words(models: Path, tmp_path: Path) -> None:
    model = ("--model", models / "words/luong", "--sample", "--n-best", 8)
    tokenizer = load_tokenizer(models / "words")
    source = "Zacharias beholds Nebuchadnezzar."
    assert encode(tokenizer, [source])[0].count(tokenizer.token_to_id("▁<unk>")) == 3
    plain, _ = run(*model, stdin=source + "\n")
    shown = json.loads(run(*model, "--json", "--alignments", "--replace-unknown", stdin=source + "\n")[0][0])
    assert any("<unk>" in line for line in plain)
    words = ["Zacharias", "beholds", "Nebuchadnezzar", "."]
    for line, t in zip(plain, shown["translations"], strict=True):
        rows = [  # of the step that predicted the unknown token
            t["attention"][i] for i, token in enumerate(t["tokens"]) if token == "▁<unk>"
        ]
        for row in rows:
            line = line.replace("<unk>", words[max(range(len(words)), key=row.__getitem__)], 1)
        assert t["text"] == line.split("\t")[1]
        assert "<unk>" not in t["text"]
    (tmp_path / "words.tsv").write_text("".join(f"{w}\t[{w}]\n" for w in words))
    translated, _ = run(*model, "--replace-unknown", "--dictionary", tmp_path / "words.tsv", stdin=source + "\n")
    assert any("[" in line for line in translated)


def test_rank_scores_by_the_log_probability_of_an_ensemble(models: Path) -> None:
    folders = [models / "bpe" / name for name in ("gru", "luong")]
    case = {"prompt": "And God said", "responses": ["there was light", "", "the earth"]}
    options = [option for folder in folders for option in ("--model", folder)]
    scored = json.loads(run("rank", *options, stdin=json.dumps(case) + "\n")[0][0])
    tokenizer = load_tokenizer(models / "bpe")
    expected = log_probabilities(
        Ensemble([load_translator(folder)[0] for folder in folders]),
        encode(tokenizer, [case["prompt"]] * 3),
        encode(tokenizer, case["responses"]),
    )
    assert scored["log_probabilities"] == pytest.approx(expected, abs=1e-4)
    assert scored["order"] == sorted(range(3), key=lambda i: -expected[i])
    assert "no config.json in it" in run("rank", "--model", models, expect=2)[1]
    long = json.dumps({"prompt": "And God said", "responses": ["light", "ab " * 9000]})
    said = run("rank", *options, stdin=f"{json.dumps(case)}\n{long}\n", expect=2)[1]
    assert "standard input, line 2: a prompt or response has" in said
    assert "at most 4,096 are scored" in said


def test_rank_answers_each_line_while_the_pipe_is_open(models: Path) -> None:
    case = b'{"prompt": "And God said", "responses": ["light", "the earth"]}\n'
    process = subprocess.Popen(
        command("rank", "--model", models / "bpe/gru"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, bufsize=0,
    )  # fmt: skip
    assert process.stdin
    assert process.stderr
    process.stdin.write(case)
    first = answer(process)
    process.stdin.write(b"\n" + case + case.replace(b"light", b"caf\xe9") + b'{"prompt": "no responses"}\n' + case)
    process.stdin.close()
    assert [answer(process) for _ in range(2)] == [b"\n", first]  # what precedes the wrong line is not lost
    assert json.loads(answer(process))["responses"][0] == "caf\ufffd"
    assert process.wait(60) == 2
    said = process.stderr.read().decode()
    assert "line 4: not UTF-8" in said
    assert 'error: standard input, line 5: expected {"prompt"' in said


def test_a_damaged_model_is_refused_by_the_name_of_the_file(models: Path, tmp_path: Path) -> None:
    broken = tmp_path / "luong"
    shutil.copytree(models / "bpe/luong", broken)
    weights, config, tokenizer = (broken / n for n in ("model.safetensors", "config.json", "tokenizer.json"))
    raw = weights.read_bytes()
    weights.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    refused = f"{weights}: not the file that was saved with the model"
    assert refused in run("--model", broken, stdin="light\n", expect=2)[1]
    for damage, message in (
        (weights.unlink, f"{weights}: missing"),
        (lambda: tokenizer.write_text(tokenizer.read_text() + " "), f"{tokenizer}: not the file"),
        (
            lambda: config.write_text(config.read_text().replace('"reverse_source": true', '"reverse_source": false')),
            f"{config}: it was altered",
        ),
        (config.unlink, "no config.json in it"),
        (lambda: (config.unlink(), config.mkdir()), f"{config}: cannot be read (Is a directory)"),
        (lambda: config.write_bytes(b'{"\xff": 1}'), f"{config}: damaged ('utf-8' codec can't decode byte 0xff"),
        (lambda: config.write_text("{"), f"{config}: damaged (Expecting property name"),
        (lambda: config.write_text("null"), f"{config}: damaged (a JSON object expected, null found). Make it again"),
        (lambda: config.write_text("7"), f"{config}: damaged (a JSON object expected, 7 found)"),
        (lambda: (shutil.rmtree(broken), broken.write_text("")), f"{broken}: a file, not a folder. Give the folder of"),
    ):
        shutil.rmtree(broken)
        shutil.copytree(models / "bpe/luong", broken)
        damage()  # type: ignore[operator]
        with pytest.raises(InputError, match=re.escape(message)):
            load_translator(broken)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "bpe/luong", "--model", "words/gru"], "the models of an ensemble must share a vocabulary"),
        (["--model", "bpe/gru", "--alignments"], "no attention, so no alignments"),
        (["--model", "bpe/gru", "--coverage-penalty", "0.2"], "no attention, so no coverage"),
        (["--model", "bpe/luong", "--replace-unknown"], "the tokenizer can write every word"),
        (["--model", "bpe/luong", "--dictionary", "x"], "it is for --replace-unknown"),
        (["--model", "bpe/luong", "--n-best", "9"], "--n-best 9 needs --beam-size 9 or more"),
        (["--model", "bpe/luong", "--sample", "--coverage-penalty", "0.2"], "--coverage-penalty is for beam search"),
        (
            ["--model", "bpe/luong", "--sample", "--beam-size", "5"],
            "--beam-size is for beam search: leave it out with --sample",
        ),
        (["--model", "bpe/luong", "--sample", "--beam-alpha", "0"], "--beam-alpha is for beam search"),
        (["--model", "bpe/luong", "--seed", "0"], "--seed is for --sample"),
        (["--model", "bpe/luong", "--sample", "--seed", "-1"], "seed"),
        (["--model", "bpe"], "no config.json in it"),
        (["--max-pieces", "9"], "--max-pieces: renamed to --max-length"),
        (["--beam", "9"], "--beam: renamed to --beam-size"),
        (["--length-penalty", "1"], "--length-penalty: renamed to --beam-alpha"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_read(
    models: Path, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    result = CliRunner().invoke(app, ["translate", *options])
    assert result.exit_code == 2
    assert message in result.output
