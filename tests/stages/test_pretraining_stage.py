"""What the stage refuses before it trains."""

import sys
from pathlib import Path

import pytest
import yaml

from data.tokenizer_training import TokenizerConfig, save_tokenizer, train_tokenizer
from stages import pretraining
from stages.framework import layout


def test_a_translator_that_cannot_read_what_is_let_through_is_an_error(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tokenizer(train_tokenizer(["ab cd"], TokenizerConfig(vocab_size=300)), layout.TOKENIZER)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["encoding"]["max_length"] = 100
    params["pretraining"]["architectures"]["luong"] |= {"score": "location", "max_source_length": 65}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setattr(sys, "argv", ["pretraining", "luong"])
    with pytest.raises(SystemExit):
        pretraining.main()
    said = capsys.readouterr().err
    assert "pretraining.architectures.luong reads at most 64 tokens, encoding.max_length lets 100 through" in said
