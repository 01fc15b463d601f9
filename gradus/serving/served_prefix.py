"""What `mlflow models serve` runs for a prefix: plain `transformers`, nothing else of this project.

MLflow stores this file's text and the prefix, some hundred kB. The base stays where it is: its folder is recorded at registration, and
`GRADUS_BASE_MODEL` names another place of the same weights.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, GenerationConfig


class ServedPrefix(PythonModel):
    """Continuations of rows with the column `source`; the parameters are `max_new_tokens` and `beam_size`."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["prefix"])
        self.config = json.loads((folder / "prefix.json").read_text(encoding="utf-8"))
        base = Path(os.environ.get("GRADUS_BASE_MODEL") or context.model_config["base"])
        whole = base / "model.safetensors"
        digest = hashlib.blake2b(digest_size=16)
        for file in [whole] if whole.is_file() else sorted(base.glob("model-*-of-*.safetensors")):
            with open(file, "rb") as stream:
                hashlib.file_digest(stream, lambda: digest)
        weights_hash = digest.hexdigest()
        if weights_hash != self.config["base_hash"]:
            raise ValueError(
                f"{base}: not the base of this prefix (weights {weights_hash[:8]}); name it in GRADUS_BASE_MODEL"
            )
        self.tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        self.model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, trust_remote_code=False).eval()
        named = self.model.generation_config.eos_token_id  # such as the end of a turn
        self.other_ends = named if isinstance(named, list) else [] if named is None else [named]
        # As `gradus generate`: penalties in the base's folder do not belong to the prefix, and without a cache the prefix would not be read.
        self.model.generation_config = GenerationConfig()
        self.model.config.use_cache = True
        with torch.inference_mode():
            cache = self.model(torch.tensor([[1]]), use_cache=True).past_key_values.layers
        heads = cache[0].keys.shape[1]  # read from the cache, because configurations have different names for it
        flat = load_file(folder / "prefix.safetensors")["P"]
        self.layers = flat.view(len(flat), len(cache), 2, heads, -1).permute(1, 2, 3, 0, 4)[:, :, None]
        special = {str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        self.split = not any(token in self.config["template"] for token in special)
        # A prompt is not ended, though the tokenizer may end every text.
        self.ends_texts = self.tokenizer("a")["input_ids"][-1:] == [self.tokenizer.eos_token_id]

    @torch.inference_mode()
    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        """What `gradus generate` writes for the rows as lines. Raises ValueError, before any is written, if a row is not a text or too long."""
        options = params or {}
        beam_size, max_new_tokens = int(options.get("beam_size", 1)), int(options.get("max_new_tokens", 64))
        prompts = self._prompts(model_input["source"], max_new_tokens)
        return [self._continuation(prompt, beam_size, max_new_tokens) if prompt else "" for prompt in prompts]

    def _prompts(self, sources: Iterable[Any], max_new_tokens: int) -> list[list[int]]:
        """The tokens of each row with its template; none for an empty row."""
        config, virtual = self.model.config.get_text_config(), self.layers.shape[4]
        positions = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
        allowed = positions - virtual - max_new_tokens if positions else None
        if allowed is not None and allowed < 1:
            raise ValueError(
                f"a prefix of {virtual} virtual tokens and {max_new_tokens} new tokens leave no room for an input in the {positions} positions of "
                "the base: lower max_new_tokens."
            )
        prompts: list[list[int]] = []
        for number, source in enumerate(sources, start=1):
            if not isinstance(source, str):
                raise ValueError(f"row {number}: source is {source!r}: a text expected, which may be empty.")
            text = self.config["template"].format(source=source.strip()) if source.strip() else ""
            # A source that spells a special token is text; a template that spells one contains the token.
            tokens = self.tokenizer(text, split_special_tokens=self.split)["input_ids"] if text else []
            if tokens and self.ends_texts:
                tokens = tokens[:-1]
            if allowed is not None and len(tokens) > allowed:
                raise ValueError(
                    f"row {number}: {len(tokens)} tokens with its template, but the base takes {allowed}: its {positions} positions less "
                    f"{virtual} virtual tokens and {max_new_tokens} new ones (max_new_tokens)."
                )
            prompts.append(tokens)
        return prompts

    def _continuation(self, prompt: list[int], beam_size: int, max_new_tokens: int) -> str:
        ends, virtual = [self.tokenizer.eos_token_id, *self.other_ends], self.layers.shape[4]
        before = torch.tensor([[0] * virtual + prompt])  # zeros in place of the tokens that the cache holds
        for_beams = self.layers.expand(-1, -1, beam_size, -1, -1, -1)
        out = self.model.generate(
            input_ids=before,
            attention_mask=torch.ones_like(before),
            past_key_values=DynamicCache(ddp_cache_data=[(layer[0], layer[1]) for layer in for_beams]),
            max_new_tokens=max_new_tokens,
            num_beams=beam_size,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=ends[0],
            use_cache=True,
        )
        written = itertools.takewhile(lambda token: token not in ends, out[0, before.shape[1] :].tolist())
        text = str(self.tokenizer.decode(list(written), skip_special_tokens=True))
        return " ".join(text.split())


set_model(ServedPrefix())
