"""This project's side: the training loop of the stage `pretraining`, and the beam search of every command."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.translation.turns import Turns
from core.process_setup import set_up_process
from data.batching import padded
from data.tokenizer import END, PAD
from lightning_modules.decoding.translation import DecodingConfig, beam_search
from lightning_modules.translators.base import Translator, TranslatorConfig, architecture

set_up_process()


def main() -> None:
    """`CASE TASK [bf16] [profile]`: the case's file, `train` or `decode`, the precision of products if it is not single, and whether to
    print a profile instead of taking turns."""
    case, task, in_bf16 = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2], "bf16" in sys.argv[3:]
    turns = (Profile if "profile" in sys.argv[3:] else Turns)(case["units"][task])
    torch.manual_seed(0)
    model_class = architecture(case["architecture"])
    config = model_class.Config.model_validate(settings_of(case))
    model = model_class(config, case["vocab_size"])
    parameters = sum(p.numel() for p in model.parameters())
    if task == "decode":
        decode(turns, model, case, parameters, in_bf16)
        return
    train(turns, model, config, case, parameters, in_bf16)


class Profile(Turns):
    """One turn to warm up, one that is profiled, and the end."""

    def __init__(self, units: int) -> None:
        self.units, self.done = units, 0
        self.profiler = torch.profiler.profile()

    def ready(self, **facts: Any) -> None:
        """Nobody waits for it."""

    def unit(self, amount: int) -> None:
        if self.done == self.units:
            self.profiler.start()
        if self.done == 2 * self.units:
            self.profiler.stop()
            print(self.profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=20), flush=True)
            os._exit(0)  # from within Lightning's loop
        self.done += 1


def settings_of(case: dict[str, Any]) -> dict[str, Any]:
    """The architecture's settings, as in params.yaml."""
    training = {
        "optimizer": "adam",
        "lr_scheduler_type": "constant",
        "learning_rate": case["learning_rate"],
        "label_smoothing": case["label_smoothing"],
        "max_grad_norm": 1.0,
        "batch_tokens": case["batch_tokens"],
    }
    if case["architecture"] == "transformer":
        sizes = {name: case[name] for name in ("num_layers", "hidden_size", "ff_size", "num_heads")}
    else:
        sizes = {"hidden_size": case["hidden_size"], "embedding_dim": case["hidden_size"]}
    return {**sizes, "dropout": case["dropout"], "training": training}


def train(
    turns: Turns, model: Translator, config: TranslatorConfig, case: dict[str, Any], parameters: int, in_bf16: bool
) -> None:
    """Trains as the stage `pretraining` does."""
    # Not where sentences are only translated, as `gradus translate` does without: they take 290 MB.
    import pytorch_lightning as pl

    from data.arrow import read_split
    from data.loaders import translation_loader
    from lightning_modules.translators.module import TranslatorModule

    class Clock(pl.Callback):
        """Tells the clock when a batch begins. Fetching it belongs to the update before, as on all sides."""

        def on_train_batch_start(
            self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: dict[str, Tensor], batch_idx: int
        ) -> None:
            turns.unit(int((batch["target"][:, 1:] != PAD).sum()))

    loader = translation_loader(read_split(Path(case["folder"]), "train"), case["batch_tokens"])
    trainer = pl.Trainer(
        max_epochs=1000,
        accelerator="cpu",
        precision="bf16-mixed" if in_bf16 else "32-true",
        callbacks=[Clock()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    turns.ready(parameters=parameters)
    trainer.fit(TranslatorModule(model, config.training, len(loader)), loader)


def decode(turns: Turns, model: Translator, case: dict[str, Any], parameters: int, in_bf16: bool) -> None:
    """Translates the sentences over and over."""
    with (
        torch.no_grad()
    ):  # like a median type the end token scores 0: never among the best, so every sentence comes to the limit
        model.eval().output[0][END] = 0
    sources = json.loads((Path(case["folder"]) / "decode.json").read_text(encoding="utf-8"))
    (length,) = {len(source) for source in sources}
    config = DecodingConfig(
        beam_size=case["beam_size"], beam_alpha=case["beam_alpha"], extra_tokens=case["tokens"] - 1 - length,
        precision="bf16-mixed" if in_bf16 else "32-true",
    )  # fmt: skip
    size = case["sentences"]
    batches = [padded([[*ids, END] for ids in sources[i : i + size]]) for i in range(0, len(sources), size)]
    turns.ready(parameters=parameters)
    while True:
        for batch in batches:
            turns.unit(len(batch))
            outputs = beam_search(model, batch, config)
            assert all(len(hypotheses[0].tokens) == case["tokens"] - 1 for hypotheses in outputs)  # and the end token


if __name__ == "__main__":
    main()
