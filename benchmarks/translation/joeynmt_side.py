"""JoeyNMT's side, run by the Python of its own environment: its configuration, model, iterator, training loop and beam search."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from joeynmt.config import parse_global_args
from joeynmt.prediction import prepare, set_validation_args
from joeynmt.search import search
from joeynmt.training import TrainManager

from benchmarks.translation.turns import Turns


def main() -> None:
    """`CASE TASK`: the case's file, and `train` or `decode`."""
    case, task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2]
    turns = Turns(case["units"][task])
    arguments = parse_global_args(configuration(case), rank=0, mode="train")
    Path(arguments.model_dir).mkdir(exist_ok=True)
    model, train, development, _ = prepare(arguments, rank=0, mode="train")
    parameters = sum(p.numel() for p in model.parameters())
    if task == "decode":
        decode(turns, model, development, case, parameters)
        return

    class Manager(TrainManager):
        """Tells the clock when a batch begins."""

        def _train_step(self, batch: Any) -> tuple[float, int]:
            turns.unit(int(batch.ntokens))
            step: tuple[float, int] = super()._train_step(batch)
            return step

    manager = Manager(
        rank=0,
        model=model,
        model_dir=arguments.model_dir,
        device=arguments.device,
        n_gpu=0,
        num_workers=0,
        autocast=arguments.autocast,
        seed=arguments.seed,
        train_args=arguments.train,
        dev_args=set_validation_args(arguments.test),
    )
    turns.ready(parameters=parameters)
    manager.train_and_validate(train_data=train, valid_data=development)


def decode(turns: Turns, model: Any, data: Any, case: dict[str, Any], parameters: int) -> None:
    """Translates the sentences over and over. `predict` would not hand on `min_output_length`: its `search` is called directly."""
    model.eval()
    batches = list(data.make_iter(batch_size=case["sentences"], eos_index=model.eos_index, pad_index=model.pad_index))
    turns.ready(parameters=parameters)
    while True:
        for batch in batches:
            turns.unit(batch.nseqs)
            batch.sort_by_src_length()
            outputs, _, _ = search(
                model=model,
                batch=batch,
                beam_size=case["beam_size"],
                beam_alpha=case["beam_alpha"],
                max_output_length=case["tokens"],
                min_output_length=case["tokens"],
                n_best=1,
                generate_unk=False,
            )
            assert outputs.shape == (batch.nseqs, case["tokens"])
            assert (outputs != model.eos_index).all()


def configuration(case: dict[str, Any]) -> dict[str, Any]:
    """What a user would write in JoeyNMT's YAML file."""
    folder = Path(case["folder"])
    side = {"level": "word", "voc_file": str(folder / "tokens.txt")}  # one line a token, cut already
    return {
        "name": case["architecture"],
        "model_dir": str(folder / f"joeynmt-{case['architecture']}"),
        "use_cuda": False,
        "data": {
            "train": str(folder / "train"),
            "dev": str(folder / "decode"),
            "dataset_type": "plain",
            "src": {"lang": "source", **side},
            "trg": {"lang": "target", **side},
        },
        "testing": {"beam_size": case["beam_size"], "batch_size": case["sentences"], "batch_type": "sentence"},
        "training": {
            "batch_size": case["batch_tokens"],
            "batch_type": "token",
            "normalization": "tokens",
            "optimizer": "adam",
            "adam_betas": [0.9, 0.98],
            "learning_rate": case["learning_rate"],
            "learning_rate_min": 0.0,
            "scheduling": "noam",  # it insists on a schedule
            "learning_rate_warmup": 4000,
            "label_smoothing": case["label_smoothing"],
            "clip_grad_norm": 1.0,
            "num_train_epochs": 1000,
            "logging_freq": 100,
            "validation_freq": 10**9,
        },
        "model": transformer(case) if case["architecture"] == "transformer" else recurrent(case),
    }


def transformer(case: dict[str, Any]) -> dict[str, Any]:
    """As the paper has it: post-norm, one matrix for both embeddings and the output."""
    d, dropout = case["hidden_size"], case["dropout"]
    stack = {
        "type": "transformer",
        "num_layers": case["num_layers"],
        "num_heads": case["num_heads"],
        "embeddings": {"embedding_dim": d, "scale": True, "dropout": dropout},
        "hidden_size": d,
        "ff_size": case["ff_size"],
        "dropout": dropout,
        "layer_norm": "post",
    }
    return {"encoder": stack, "decoder": dict(stack), "tied_embeddings": True, "tied_softmax": True}


def recurrent(case: dict[str, Any]) -> dict[str, Any]:
    """An encoder that is always bidirectional, and a decoder with input feeding."""
    hidden, dropout = case["hidden_size"], case["dropout"]
    embeddings = {"embedding_dim": hidden, "dropout": dropout}
    luong = case["architecture"] == "luong"
    kind = {"type": "recurrent", "rnn_type": "lstm" if luong else "gru", "num_layers": 1, "dropout": dropout}
    # Luong's encoder reads one way: as many features from two directions of half the size.
    encoder = {**kind, "embeddings": embeddings, "hidden_size": hidden // 2 if luong else hidden, "bidirectional": True}
    decoder = {
        **kind,
        "embeddings": embeddings,
        "hidden_size": hidden,
        "hidden_dropout": dropout,
        "attention": case["architecture"],
        "input_feeding": True,
        "init_hidden": "bridge",
    }
    return {"encoder": encoder, "decoder": decoder}


if __name__ == "__main__":
    logging.disable(logging.INFO)
    torch.manual_seed(0)
    main()
