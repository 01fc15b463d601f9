"""What `mlflow models serve` runs for a reward model: plain `transformers`, nothing else of this project.

MLflow stores this file's text with the model (no pickles) and runs it in the server.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from string import Formatter
from typing import Any

import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

ROWS_AT_ONCE = 32


class ServedRewardModel(PythonModel):
    """Rewards of rows with the columns `prompt`, `response` and, where the model's template asks for it, `reference`."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["model"])
        self.config = json.loads((folder / "reward.json").read_text(encoding="utf-8"))
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False
        ).eval()

    @torch.inference_mode()
    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[float]:
        """Raises ValueError, before any is scored, where a row lacks a text or is longer than the model reads."""
        texts = self._texts(model_input.to_dict("records"))
        order = sorted(range(len(texts)), key=lambda i: len(texts[i][0]) + len(texts[i][1]))
        rewards = [0.0] * len(texts)
        for start in range(0, len(order), ROWS_AT_ONCE):
            rows = order[start : start + ROWS_AT_ONCE]
            prompts, responses = zip(*(texts[i] for i in rows), strict=True)
            batch = self._tokens(prompts, responses, padding=True, return_tensors="pt")
            for i, value in zip(rows, self.model(**batch).logits[:, 0].tolist(), strict=True):
                rewards[i] = value + self.config["bias"]
        return rewards

    def _texts(self, rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
        """Prompt in its template, and response, of each row."""
        template = self.config["frame"]["template"]
        fields = [name for _, name, _, _ in Formatter().parse(template) if name]
        for number, row in enumerate(rows, start=1):
            for column in dict.fromkeys(["prompt", "response", *fields]):
                value = row.get(column)
                if not isinstance(value, str) or (column == "reference" and not value):
                    raise ValueError(f"row {number}: {column} is {value!r}: a text expected.")
        texts = [(template.format(prompt=r["prompt"], reference=r.get("reference")), r["response"]) for r in rows]
        longest = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        tokens = self._tokens(*zip(*texts, strict=True))["input_ids"] if texts else []
        for number, ids in enumerate(tokens, start=1):
            if longest and len(ids) > longest:
                raise ValueError(
                    f"row {number}: prompt and response have {len(ids):,} tokens; this model reads at most {longest:,}."
                )
        return texts

    def _tokens(self, prompts: Sequence[str], responses: Sequence[str], **options: Any) -> Any:
        """Text that spells a special token is text."""
        return self.tokenizer(list(prompts), list(responses), split_special_tokens=True, **options)


set_model(ServedRewardModel())
