"""Makes this folder's files with PEFT itself: `PYTHONPATH='.peers/peft==0.21.2' python tests/model_io/peft_adapter/make.py`.

A grouped-query base; on it a prefix with and without PEFT's MLP and a prompt, each saved by `save_pretrained`; and PEFT's logits.
`import benchmarks.peers; benchmarks.peers.environment("peft==0.21.2")` installs that PEFT into .peers/.
"""

import json
from pathlib import Path

import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

FOLDER = Path(__file__).resolve().parent
TEXT = [[3, 7, 11, 5], [9, 4, 4, 12]]


def main() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )  # fmt: skip
    base = AutoModelForCausalLM.from_config(config).eval()
    base.save_pretrained(FOLDER / "base")
    found = {"text": TEXT}
    kinds = {
        "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "projected": PrefixTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=8
        ),
        "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }
    for name, kind in kinds.items():
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(FOLDER / "base"), kind).eval()
        for weights in model.prompt_encoder.parameters():
            torch.nn.init.normal_(weights)
        with torch.no_grad():
            logits = model(torch.tensor(TEXT), attention_mask=torch.ones(2, 4)).logits
        found[name] = logits[:, -4:].tolist()  # those of a prompt come before
        model.save_pretrained(FOLDER / name)
        (FOLDER / name / "README.md").unlink(missing_ok=True)
        config_file = FOLDER / name / "adapter_config.json"
        config_file.write_text(config_file.read_text().replace(str(FOLDER / "base"), "base"))
    (FOLDER / "logits.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
