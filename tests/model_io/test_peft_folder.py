"""Prefixes and PEFT's adapters: read what PEFT wrote (`peft_adapter/make.py`), write what it reads, refuse what is neither."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from core.errors import InputError
from gradus.cli import app
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.prefix import build_adapter
from model_io.peft import export_prefix, import_prefix
from model_io.prefix import load_prefix, save_prefix

FIXTURE = Path(__file__).with_name("peft_adapter")
BASE = FIXTURE / "base"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["prefix", "projected", "prompt"])
def test_an_adapter_of_peft_gives_the_logits_it_gives_in_peft(name: str, out: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(BASE).eval()
    import_prefix(FIXTURE / name, base, BASE, out, "say {source}")
    loaded = load_prefix(out, base, BASE)
    assert loaded.template == "say {source}"
    expected = json.loads((FIXTURE / "logits.json").read_text())
    with torch.no_grad():
        logits = base.get_output_embeddings()(loaded.adapter.states(base, torch.tensor(expected["text"])))
        plain = base(torch.tensor(expected["text"])).logits
    torch.testing.assert_close(logits, torch.tensor(expected[name]), rtol=0, atol=1e-5)
    assert (plain - logits).abs().max() > 0.01


@pytest.mark.parametrize(("kind", "like"), [("prefix", "prefix"), ("prompt_tuning", "prompt")])
def test_a_round_trip_keeps_every_bit_and_writes_what_peft_writes(kind: str, like: str, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(BASE).eval()
    made = build_adapter(
        kind, base, PrefixConfig(num_virtual_tokens=5, projection_input_size=8, encoder_hidden_size=8), [3, 4]
    )
    for name in ("ours", "theirs", "back"):
        (tmp_path / name).mkdir()
    save_prefix(tmp_path / "ours", kind, made, BASE, "{source}")
    export_prefix(tmp_path / "ours", base, BASE, tmp_path / "theirs")
    import_prefix(tmp_path / "theirs", base, BASE, tmp_path / "back", "{source}")
    assert torch.equal(load_prefix(tmp_path / "back", base, BASE).adapter.prompt_embeddings(), made.prompt_embeddings())
    assert (tmp_path / "back" / "prefix.json").read_bytes() == (tmp_path / "ours" / "prefix.json").read_bytes()

    written = json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())
    peft = json.loads((FIXTURE / like / "adapter_config.json").read_text())
    shapes = [
        "peft_type",
        "task_type",
        "num_layers",
        "token_dim",
        "num_attention_heads",
        "num_transformer_submodules",
        "inference_mode",
    ]
    assert {key: written[key] for key in shapes} == {key: peft[key] for key in shapes}
    assert set(written) <= set(peft)
    assert load_file(tmp_path / "theirs" / "adapter_model.safetensors").keys() == {"prompt_embeddings"}


def test_what_is_no_prefix_is_refused(out: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(BASE).eval()
    adapter = tmp_path / "adapter"
    shutil.copytree(FIXTURE / "prefix", adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "LORA"}))
    with pytest.raises(
        InputError, match=r"adapter_config\.json: peft_type 'LORA': expected PREFIX_TUNING or PROMPT_TUNING"
    ):
        import_prefix(adapter, base, BASE, out, "{source}")
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"task_type": "SEQ_CLS"}))
    with pytest.raises(InputError, match=r"adapter_config\.json: task_type 'SEQ_CLS': expected CAUSAL_LM"):
        import_prefix(adapter, base, BASE, out, "{source}")
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    save_file({"prompt_embeddings": torch.zeros(3, 7)}, adapter / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"P is \(3, 7\), and this base needs \(length, 32\)"):
        import_prefix(adapter, base, BASE, out, "{source}")
    width = load_file(FIXTURE / "prefix" / "adapter_model.safetensors")["prompt_embeddings"].shape[1]
    for length, value, found in [(0, 0.0, "no positions"), (3, float("nan"), "values that are not finite")]:
        save_file({"prompt_embeddings": torch.full((length, width), value)}, adapter / "adapter_model.safetensors")
        with pytest.raises(InputError, match=rf"{adapter}: P has {found}"):
            import_prefix(adapter, base, BASE, out, "{source}")
    (adapter / "adapter_model.safetensors").write_bytes(
        (FIXTURE / "prefix" / "adapter_model.safetensors").read_bytes()[:-9]
    )
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: missing or damaged"):
        import_prefix(adapter, base, BASE, out, "{source}")
    infix = build_adapter(
        "prefix", base, PrefixConfig(num_virtual_tokens=5, prefix_projection=False, position="infix"), None
    )
    save_prefix(out, "prefix", infix, BASE, "{source}")
    with pytest.raises(InputError, match="it is an infix: PEFT has prefixes"):
        export_prefix(out, base, BASE, adapter)


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing key", "unknown kind"])
def test_a_damaged_prefix_is_named(damage: str, out: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(BASE).eval()
    save_prefix(
        out, "prefix", build_adapter("prefix", base, PrefixConfig(num_virtual_tokens=5), None), BASE, "{source}"
    )
    weights, config = out / "prefix.safetensors", json.loads((out / "prefix.json").read_text())
    content = bytearray(weights.read_bytes())
    match damage:
        case "truncated":
            weights.write_bytes(content[:-1])
        case "altered":
            content[-1] ^= 1
            weights.write_bytes(content)
        case "missing key":
            del config["base_hash"]
        case "unknown kind":
            config["kind"] = "lora"
    (out / "prefix.json").write_text(json.dumps(config))
    named = {"missing key": "no base_hash in it", "unknown kind": "kind 'lora'"}.get(
        damage, r"prefix\.safetensors: truncated or altered"
    )
    with pytest.raises(InputError, match=named):
        load_prefix(out, base, BASE)


def test_the_commands(tmp_path: Path) -> None:
    run = CliRunner().invoke
    to, back = str(tmp_path / "prefix"), str(tmp_path / "adapter")
    arguments = ["prefix", "import", "--peft", str(FIXTURE / "projected"), "--model", str(BASE), "--output", to]
    done = run(app, [*arguments, "--template", r"Data: {source}\nText:"])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "prefix" / "prefix.json").read_text())["template"] == "Data: {source}\nText:"
    assert run(app, arguments).exit_code == 2  # it exists
    done = run(app, ["prefix", "export", "--prefix", to, "--model", str(BASE), "--output", back])
    assert done.exit_code == 0, done.output
    expected = load_file(FIXTURE / "projected" / "adapter_model.safetensors")["prompt_embeddings"]
    assert torch.equal(load_file(tmp_path / "adapter" / "adapter_model.safetensors")["prompt_embeddings"], expected)
