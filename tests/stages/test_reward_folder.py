"""A saved reward model scores the same here, in plain transformers, and in an MLflow server."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from data.errors import InputError
from data.tokenizer import TokenizerSettings, save_tokenizer, train_tokenizer
from gradus import registering, tracking
from lightning_modules.prefix_tuning import NoPrefix, Prefix, PrefixSettings
from stages.reward_folder import load_reward_model, new_reward_model, save_reward_model

TEMPLATE = "{prompt} ({reference})"
CASES = [
    {"prompt": "abc abc", "reference": "cab", "responses": ["a", "b c </s> a", "cc"]},
    {"prompt": "a", "reference": "c", "responses": ["cab cab", "b" * 30]},
]


@pytest.fixture(params=["own pad", "pad is the end", "one special piece"])
def body(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A language model's folder; some tokenizers spell padding as they spell the end."""
    folder = tmp_path / "body"
    save_tokenizer(train_tokenizer(["abc cab", "a (b) c"], TokenizerSettings(vocabulary=300)), folder)
    if request.param == "pad is the end":
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.save_pretrained(folder)
    elif request.param == "one special piece":  # as GPT-2 has it
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


def saved(body: Path, folder: Path, prefix: bool = False) -> Path:
    model, tokenizer, frame = new_reward_model(body, TEMPLATE)
    torch.nn.init.normal_(model.score.weight)
    adapter = Prefix(model, PrefixSettings(length=3, mlp_input=4, mlp_hidden=4)) if prefix else NoPrefix()
    save_reward_model(folder, model, tokenizer, frame, adapter, bias=0.25, temperature=1.5)
    return folder


def test_plain_transformers_scores_the_same(body: Path, tmp_path: Path) -> None:
    folder = saved(body, tmp_path / "reward")
    ours = load_reward_model(folder)
    assert (ours.bias, ours.temperature) == (0.25, 1.5)
    found = ours.rewards(CASES)
    assert [len(values) for values in found] == [3, 2]
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForSequenceClassification.from_pretrained(folder).eval(),
    )
    pairs = [(TEMPLATE.format(**case), response) for case in CASES for response in case["responses"]]
    prompts, responses = zip(*pairs, strict=True)
    batch = tokenizer(list(prompts), list(responses), padding=True, return_tensors="pt", split_special_tokens=True)
    with torch.inference_mode():
        theirs = model(**batch).logits[:, 0].numpy() + 0.25
    np.testing.assert_allclose(np.concatenate(found), theirs, rtol=1e-5, atol=1e-5)


def test_a_prefix_is_saved_with_the_model(body: Path, tmp_path: Path) -> None:
    with_prefix = load_reward_model(saved(body, tmp_path / "with", prefix=True)).rewards(CASES)
    torch.manual_seed(0)
    without = load_reward_model(saved(body, tmp_path / "without")).rewards(CASES)
    assert not np.allclose(with_prefix[0], without[0])
    with pytest.raises(InputError, match="prefix-tuned reward models cannot be served"):
        registering.register(tmp_path / "with", "reward")


def test_a_text_longer_than_the_body_is_an_error(body: Path, tmp_path: Path) -> None:
    model = load_reward_model(saved(body, tmp_path / "reward"))
    model.model.config.max_position_embeddings = 40
    assert len(model.rewards(CASES[:1])) == 1
    with pytest.raises(InputError, match="this model reads at most 40"):
        model.rewards([{**CASES[0], "responses": ["abc " * 100, "a"]}])


def test_a_missing_reference_is_an_error(body: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a reference, and a record has none"):
        load_reward_model(saved(body, tmp_path / "reward")).rewards([{"prompt": "a", "responses": ["b", "c"]}])


@pytest.mark.parametrize("body", ["own pad"], indirect=True)
def test_mlflow_serves_the_same_scores(
    body: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_tracking: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{empty_tracking}")
    tracking.client.cache_clear()
    folder = saved(body, tmp_path / "reward")
    registered = registering.register(folder, "reward_test")
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
        found = _ask(f"http://127.0.0.1:{port}/invocations", {"dataframe_records": rows}, server)
    finally:
        for process in [*psutil.Process(server.pid).children(recursive=True), server]:
            process.kill()
        tracking.client.cache_clear()
    expected = np.concatenate(load_reward_model(folder).rewards(CASES))
    np.testing.assert_allclose(found["predictions"], expected, rtol=1e-5, atol=1e-5)


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
