"""A saved reward model scores the same here, in plain transformers, and in an MLflow server."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from core import tracking
from core.errors import InputError
from data.tokenizer_training import TokenizerConfig, save_tokenizer, train_tokenizer
from gradus.serving.register import register
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.prefix import NoPrefix, Prefix
from model_io.files import WEIGHTS
from model_io.prefix import PREFIX
from model_io.reward_model import REWARD_CONFIG, load_reward_model, new_reward_model, save_reward_model

TEMPLATE = "{prompt} ({reference})"
CASES = [
    {"prompt": "abc abc", "reference": "cab", "responses": ["a", "b c </s> a", "cc"]},
    {"prompt": "a", "reference": "c", "responses": ["cab cab", "b" * 30]},
]


@pytest.fixture(params=["own pad", "pad is the end", "one special token"])
def body(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A language model's folder; some tokenizers spell padding as they spell the end."""
    folder = tmp_path / "body"
    save_tokenizer(train_tokenizer(["abc cab", "a (b) c"], TokenizerConfig(vocab_size=300)), folder)
    if request.param == "pad is the end":
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.save_pretrained(folder)
    elif request.param == "one special token":  # as GPT-2 has it
        bare = Tokenizer.from_file(str(folder / "tokenizer.json"))
        bare.post_processor = None
        end = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "</s>")
        PreTrainedTokenizerFast(tokenizer_object=bare, **end).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id={"own pad": 0, "pad is the end": 2}.get(request.param),
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_tracking: Path) -> None:
    """Models are registered in a data base of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{empty_tracking}")
    tracking.client.cache_clear()


def saved(body: Path, folder: Path, prefix: bool = False) -> Path:
    model, tokenizer, frame = new_reward_model(body, TEMPLATE)
    torch.nn.init.normal_(model.score.weight)
    adapter = (
        Prefix(model, PrefixConfig(num_virtual_tokens=3, projection_input_size=4, encoder_hidden_size=4))
        if prefix
        else NoPrefix()
    )
    save_reward_model(folder, model, tokenizer, frame, adapter, bias=0.25, temperature=1.5)
    return folder


def test_plain_transformers_scores_the_same(body: Path, tmp_path: Path) -> None:
    folder = saved(body, tmp_path / "reward")
    ours = load_reward_model(folder)
    assert (ours.bias, ours.temperature) == (0.25, 1.5)
    rewards = ours.rewards(CASES)
    assert [len(values) for values in rewards] == [3, 2]
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForSequenceClassification.from_pretrained(folder).eval(),
    )
    pairs = [(TEMPLATE.format(**case), response) for case in CASES for response in case["responses"]]
    prompts, responses = zip(*pairs, strict=True)
    batch = tokenizer(list(prompts), list(responses), padding=True, return_tensors="pt", split_special_tokens=True)
    with torch.inference_mode():
        theirs = model(**batch).logits[:, 0].numpy() + 0.25
    np.testing.assert_allclose(np.concatenate(rewards), theirs, rtol=1e-5, atol=1e-5)


def test_a_prefix_is_saved_with_the_model(body: Path, tmp_path: Path) -> None:
    with_prefix = load_reward_model(saved(body, tmp_path / "with", prefix=True)).rewards(CASES)
    torch.manual_seed(0)
    without = load_reward_model(saved(body, tmp_path / "without")).rewards(CASES)
    assert not np.allclose(with_prefix[0], without[0])
    with pytest.raises(InputError, match="prefix-tuned reward models cannot be served"):
        register(tmp_path / "with", "reward")


def test_a_text_longer_than_the_body_is_an_error(body: Path, tmp_path: Path) -> None:
    model = load_reward_model(saved(body, tmp_path / "reward"))
    model.model.config.max_position_embeddings = 40
    assert len(model.rewards(CASES[:1])) == 1
    with pytest.raises(InputError, match="this model reads at most 40"):
        model.rewards([{**CASES[0], "responses": ["abc " * 100, "a"]}])


def test_a_missing_reference_is_an_error(body: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a reference, and a record has none"):
        load_reward_model(saved(body, tmp_path / "reward")).rewards([{"prompt": "a", "responses": ["b", "c"]}])


def _edited(folder: Path, change: Callable[[dict[str, Any]], object] = dict) -> Path:
    """The folder with reward.json changed, and without hashes, as folders had it before there were any."""
    values = json.loads((folder / REWARD_CONFIG).read_text())
    del values["files"], values["config_hash"]
    change(values)
    (folder / REWARD_CONFIG).write_text(json.dumps(values))
    return folder


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "prefix lost": (lambda f: (f / PREFIX).unlink(), r"prefix\.safetensors: missing"),
    "prefix of another model": (
        lambda f: save_file({"P": load_file(f / PREFIX)["P"] + 1}, f / PREFIX),
        r"prefix\.safetensors: not the file that was saved with the model",
    ),
    "weights of another model": (
        lambda f: save_file(dict(load_file(f / WEIGHTS), extra=torch.zeros(1)), f / WEIGHTS, {"format": "pt"}),
        r"model\.safetensors: not the file that was saved with the model",
    ),
    "weights lost": (lambda f: (f / WEIGHTS).unlink(), r"model\.safetensors: missing"),
    "reward.json altered": (
        lambda f: (f / REWARD_CONFIG).write_text((f / REWARD_CONFIG).read_text().replace("0.25", "0.5")),
        r"reward\.json: it was altered",
    ),
    "no hashes, prefix lost": (lambda f: (_edited(f) / PREFIX).unlink(), r"prefix\.safetensors: missing"),
    "no hashes, weights lost": (lambda f: (_edited(f) / WEIGHTS).unlink(), r"model\.safetensors: missing"),
    "no hashes, P of another width": (
        lambda f: save_file({"P": torch.zeros(3, 7)}, _edited(f) / PREFIX),
        r"prefix\.safetensors: P is \(3, 7\), and this base needs \(length, 64\)",
    ),
    "no hashes, no P": (
        lambda f: save_file({"Q": torch.zeros(3, 64)}, _edited(f) / PREFIX),
        r"prefix\.safetensors: expected P in it, found Q",
    ),
    "no frame": (lambda f: _edited(f, lambda v: v.pop("frame")), r"reward\.json: key 'frame' is missing"),
    "no bias": (lambda f: _edited(f, lambda v: v.pop("bias")), r"reward\.json: key 'bias' is missing"),
    "no end": (lambda f: _edited(f, lambda v: v["frame"].update(after=[])), r"reward\.json: frame\.after is empty"),
    "unknown field": (
        lambda f: _edited(f, lambda v: v["frame"].update(template="{nope}")),
        r"reward\.json: frame\.template: .* \{prompt\} or \{reference\}",
    ),
}


@pytest.mark.parametrize("body", ["own pad"], indirect=True)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_named(body: Path, tmp_path: Path, damage: str) -> None:
    folder = saved(body, tmp_path / "reward", prefix=True)
    change, expected = DAMAGES[damage]
    change(folder)
    with pytest.raises(InputError, match=expected):
        load_reward_model(folder)


@pytest.mark.parametrize("body", ["own pad"], indirect=True)
@pytest.mark.parametrize("prefix", [False, True])
def test_a_folder_made_before_there_were_hashes_is_read(body: Path, tmp_path: Path, prefix: bool) -> None:
    folder = saved(body, tmp_path / "reward", prefix)
    expected = load_reward_model(folder).rewards(CASES)
    _edited(folder, lambda values: values.pop("prefix"))
    np.testing.assert_array_equal(np.concatenate(load_reward_model(folder).rewards(CASES)), np.concatenate(expected))


@pytest.mark.parametrize("body", ["own pad"], indirect=True)
@pytest.mark.usefixtures("registry")
def test_what_cannot_be_registered_is_named(body: Path, tmp_path: Path) -> None:
    folder = saved(body, tmp_path / "reward")
    with pytest.raises(InputError, match=r"a/b: .*[Nn]ame"):
        register(folder, "a/b")
    tracking.client.cache_clear()
    _edited(folder, lambda values: values.pop("frame"))
    with pytest.raises(InputError, match=r"reward\.json: key 'frame' is missing"):
        register(folder)
    (saved(body, tmp_path / "lost") / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: missing"):
        register(tmp_path / "lost")


@pytest.mark.parametrize("body", ["own pad"], indirect=True)
@pytest.mark.usefixtures("registry")
def test_mlflow_serves_the_same_scores(body: Path, tmp_path: Path) -> None:
    folder = saved(body, tmp_path / "reward")
    registered = register(folder, "reward_test")
    port = _free_port()
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m", f"models:/{registered}"]
    server = subprocess.Popen(
        [*command, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        cwd=tmp_path,
    )
    try:
        rows = [
            {"prompt": c["prompt"], "reference": c["reference"], "response": r} for c in CASES for r in c["responses"]
        ]
        rewards = _ask(f"http://127.0.0.1:{port}/invocations", {"dataframe_records": rows}, server)
    finally:
        for process in [*psutil.Process(server.pid).children(recursive=True), server]:
            process.kill()
        tracking.client.cache_clear()
    expected = np.concatenate(load_reward_model(folder).rewards(CASES))
    np.testing.assert_allclose(rewards["predictions"], expected, rtol=1e-5, atol=1e-5)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(url: str, body: dict[str, Any], server: subprocess.Popen[bytes]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    for _ in range(120):
        assert server.poll() is None, server.stdout and server.stdout.read().decode()[-3000:]
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()[-3000:]) from None
        except OSError:
            time.sleep(1)
    raise AssertionError("the server did not answer within two minutes")
