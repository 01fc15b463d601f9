"""`gradus rank` and `gradus evaluate-rankings`: wrong lines and options are ordinary errors, and what is written is JSON."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from core.errors import InputError
from data.tokenizer_training import TokenizerConfig, save_tokenizer, train_tokenizer
from gradus.cli import app
from gradus.inference.evaluate_rankings import evaluation
from gradus.inference.input_lines import Line
from gradus.inference.rank import _scored, rewards
from lightning_modules.prefix_tuning.prefix import NoPrefix
from model_io.reward_model import new_reward_model, save_reward_model

GOOD = '{"prompt": "abc", "responses": ["a", "b"]}'


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("body")
    save_tokenizer(train_tokenizer(["abc cab"], TokenizerConfig(vocab_size=300)), folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def reward_model(body: Path, folder: Path, head: float = 0.1) -> Path:
    model, tokenizer, frame = new_reward_model(body, "{prompt}")
    torch.nn.init.constant_(model.score.weight, head)
    save_reward_model(folder, model, tokenizer, frame, NoPrefix(), bias=0.25, temperature=None)
    return folder


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[" * 200_000, "nested too deeply"),
        (f'{{"prompt": "a", "responses": ["b"], "x": {"1" * 5000}}}', "not JSON that can be read"),
        ('{"prompt": "a", "responses": ["b"], "x": NaN}', "not JSON that can be read"),
        ('{"prompt": "a", "responses": ["b"], "x": 1e999}', "not JSON that can be read"),
    ],
)
def test_a_line_that_is_no_json_is_named_after_those_before_it(
    body: Path, tmp_path: Path, line: str, expected: str
) -> None:
    written = rewards(reward_model(body, tmp_path / "r"), [[Line(1, GOOD, None), Line(2, line, None)]], print)
    assert len(json.loads(next(written))["rewards"]) == 2
    with pytest.raises(InputError, match=rf"^standard input, line 2: .*{expected}"):
        next(written)


def test_rewards_that_are_not_finite_are_an_error(body: Path, tmp_path: Path) -> None:
    folder = reward_model(body, tmp_path / "r", head=float("nan"))
    with pytest.raises(InputError, match="standard input, line 1: the model gives scores that are not finite"):
        next(rewards(folder, [[Line(1, GOOD, None)]], print))
    file = tmp_path / "rankings.jsonl"
    file.write_text(json.dumps({**json.loads(GOOD), "ranks": [1, 2], "labeler": "a"}) + "\n")
    with pytest.raises(InputError, match=r"^the model gives scores that are not finite"):
        evaluation(folder, file, {})


def test_an_unknown_format_is_an_error(body: Path, tmp_path: Path) -> None:
    file, shown = tmp_path / "rankings.jsonl", io.StringIO()
    file.write_text(json.dumps({**json.loads(GOOD), "ranks": [1, 2]}) + "\n")
    model = str(reward_model(body, tmp_path / "r"))
    with pytest.raises(SystemExit) as ended, contextlib.redirect_stderr(shown):
        app(["evaluate-rankings", str(file), "--model", model, "--format", "jsonll"])
    assert ended.value.code == 2
    assert "options: format" in shown.getvalue()
    assert "unknown format" in shown.getvalue()


def test_a_case_that_cannot_be_scored_is_named_after_those_before_it() -> None:
    def scores(cases: list[dict[str, Any]]) -> list[list[float]]:
        if any(case["prompt"] == "long" for case in cases):
            raise InputError("too long.")
        return [[0.5, 0.75] for _ in cases]

    texts = [json.dumps({"prompt": p, "responses": ["a", "b"]}) for p in ("x", "y", "long", "z")]
    lines = [Line(n, text, None) for n, text in enumerate([texts[0], " ", *texts[1:]], start=1)]
    output_lines = _scored([lines], print, "rewards", scores)
    written = [next(output_lines) for _ in range(3)]
    assert [json.loads(w)["order"] if w else None for w in written] == [[1, 0], None, [1, 0]]
    with pytest.raises(InputError, match=r"^standard input, line 4: too long\.$"):
        next(output_lines)
    half = Line(1, r'{"prompt": "\ud800", "responses": ["a"]}', None)
    with pytest.raises(InputError, match="line 1: half a surrogate pair"):
        next(_scored([[half]], print, "rewards", scores))


def test_a_chat_is_scored_as_its_text_and_written_as_it_came(body: Path, tmp_path: Path) -> None:
    chat, folder = [{"role": "user", "content": "abc"}], reward_model(body, tmp_path / "r")
    prompts = ({"prompt": chat}, {"messages": chat}, {"prompt": "user: abc"})
    lines = [Line(n, json.dumps({**prompt, "responses": ["a", "b"]}), None) for n, prompt in enumerate(prompts)]
    written = [json.loads(line) for line in rewards(folder, [lines], print)]
    assert [line["rewards"] for line in written] == [written[2]["rewards"]] * 3
    assert [line.get("prompt") for line in written] == [chat, None, "user: abc"]
    wrong = Line(7, json.dumps({"prompt": [{"role": "user"}], "responses": ["a"]}), None)
    with pytest.raises(InputError, match=r"^standard input, line 7: prompt\.0\.content: missing\.$"):
        next(rewards(folder, [[wrong]], print))


def test_rankings_of_a_table_are_evaluated_through_a_mapping_of_columns(
    body: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.csv").write_text("q,x,y,better\nabc,a,b,left\nabc,b,c,right\n")
    columns = "prompt=q,responses=x+y,winner=better{x=left,y=right}"
    model = str(reward_model(body, tmp_path / "r"))
    with contextlib.suppress(SystemExit):
        app(["evaluate-rankings", str(tmp_path / "r.csv"), "--model", model, "--columns", columns])
    assert json.loads(capsys.readouterr().out)["comparisons"] == 2
