"""What `mlflow models serve` runs for a reward model: plain `transformers`, nothing else of this project.

MLflow stores this file's text with the model (no pickles) and runs it in the server.
"""

import json
from pathlib import Path
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
        self.settings = json.loads((folder / "reward.json").read_text(encoding="utf-8"))
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[float]:
        rows = model_input.to_dict("records")
        template = self.settings["frame"]["template"]
        texts = [(template.format(prompt=r["prompt"], reference=r.get("reference")), r["response"]) for r in rows]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i][0]) + len(texts[i][1]))
        found = [0.0] * len(texts)
        for start in range(0, len(order), ROWS_AT_ONCE):
            chosen = order[start : start + ROWS_AT_ONCE]
            prompts, responses = zip(*(texts[i] for i in chosen), strict=True)
            batch = self.tokenizer(
                list(prompts),
                list(responses),
                padding=True,
                return_tensors="pt",
                split_special_tokens=True,  # text that spells a special piece is text
            )
            for i, value in zip(chosen, self.model(**batch).logits[:, 0].tolist(), strict=True):
                found[i] = value + self.settings["bias"]
        return found


set_model(ServedRewardModel())
