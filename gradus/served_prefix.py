"""What `mlflow models serve` runs for a prefix: plain `transformers`, nothing else of this project.

MLflow stores this file's text and the prefix, some hundred kB. The base stays where it is: its folder is recorded at registration, and
`GRADUS_BASE_MODEL` names another place of the same weights.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache


class ServedPrefix(PythonModel):
    """Continuations of rows with the column `source`; the parameters are `max_pieces` and `beam`."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["prefix"])
        self.settings = json.loads((folder / "prefix.json").read_text(encoding="utf-8"))
        base = Path(os.environ.get("GRADUS_BASE_MODEL") or context.model_config["base"])
        with open(base / "model.safetensors", "rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        if found != self.settings["base_hash"]:
            raise ValueError(f"{base}: not the base of this prefix (weights {found[:8]}); name it in GRADUS_BASE_MODEL")
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        config = self.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        flat = load_file(folder / "prefix.safetensors")["P"]
        self.layers = flat.view(len(flat), config.num_hidden_layers, 2, heads, -1).permute(1, 2, 3, 0, 4)[:, :, None]

    @torch.inference_mode()
    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        given = params or {}
        beam, most = int(given.get("beam", 1)), int(given.get("max_pieces", 64))
        end, virtual = self.tokenizer.eos_token_id, self.layers.shape[4]
        texts = []
        for source in model_input["source"]:
            ids = self.tokenizer(self.settings["template"].format(source=source), return_tensors="pt")["input_ids"]
            before = torch.cat([ids.new_zeros(1, virtual), ids], 1)  # stand-ins for what the cache holds
            both = self.layers.expand(-1, -1, beam, -1, -1, -1)
            out = self.model.generate(
                input_ids=before,
                attention_mask=torch.ones_like(before),
                past_key_values=DynamicCache(ddp_cache_data=[(layer[0], layer[1]) for layer in both]),
                max_new_tokens=most,
                num_beams=beam,
                do_sample=False,
                eos_token_id=end,
                pad_token_id=end,
            )
            written = str(self.tokenizer.decode(out[0, before.shape[1] :], skip_special_tokens=True))
            texts.append(" ".join(written.split()))
        return texts


set_model(ServedPrefix())
