"""Hugging Face's side: a Transformer of the Marian type under `Seq2SeqTrainer`, with batches grouped by length."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainer, Seq2SeqTrainingArguments

from benchmarks.translation.turns import Turns
from core.process_setup import set_up_process
from data.arrow import read_split
from data.batching import padded
from data.tokenizer import BEGIN, END, PAD

set_up_process()

IGNORED = -100  # a label that has no loss


def main() -> None:
    """`CASE TASK [bf16]`: the case's file, `train` or `decode`, and the precision of products if it is not single."""
    case, task, in_bf16 = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2], "bf16" in sys.argv[3:]
    turns = Turns(case["units"][task])
    torch.manual_seed(0)
    model = MarianMTModel(configuration(case))
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)  # the table of sinusoids is none
    if task == "decode":
        decode(turns, model.bfloat16() if in_bf16 else model, case, parameters)
    else:
        train(turns, model, case, parameters, in_bf16)


def configuration(case: dict[str, Any]) -> MarianConfig:
    """Post-norm, ReLU, sinusoids, one matrix for both embeddings and the output."""
    d, n, heads, width, dropout = (
        case[name] for name in ("hidden_size", "num_layers", "num_heads", "ff_size", "dropout")
    )
    return MarianConfig(
        vocab_size=case["vocab_size"], d_model=d, encoder_layers=n, decoder_layers=n, encoder_attention_heads=heads,
        decoder_attention_heads=heads, encoder_ffn_dim=width, decoder_ffn_dim=width, activation_function="relu", dropout=dropout,
        attention_dropout=0.0, activation_dropout=0.0, scale_embedding=True, share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True, max_position_embeddings=256, pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END,
        decoder_start_token_id=BEGIN, forced_eos_token_id=None,
    )  # fmt: skip


def train(turns: Turns, model: Any, case: dict[str, Any], parameters: int, in_bf16: bool) -> None:
    """Training as its users write it: an update has as many padded cells on average as the other sides' at most."""

    class Clocked(Seq2SeqTrainer):
        def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> torch.Tensor:
            turns.unit(int((inputs["labels"] != IGNORED).sum()))
            loss: torch.Tensor = super().training_step(model, inputs, *rest, **named)
            return loss

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        source, labels = (padded([[*row[side], END] for row in rows]) for side in ("input_ids", "labels"))
        labels = labels.masked_fill(labels == PAD, IGNORED)
        return {
            "input_ids": source,
            "attention_mask": (source != PAD).long(),
            "labels": labels,
            "decoder_input_ids": model.prepare_decoder_input_ids_from_labels(
                labels
            ),  # label smoothing takes the labels away
        }

    rows = read_split(Path(case["folder"]), "train").rename_columns({"source": "input_ids", "target": "labels"})
    cells = sum(len(ids) + 1 for ids in rows["labels"]) / len(rows)
    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder, per_device_train_batch_size=round(case["batch_tokens"] / cells), num_train_epochs=1000,
            learning_rate=case["learning_rate"], lr_scheduler_type="constant", label_smoothing_factor=case["label_smoothing"],
            max_grad_norm=1.0, train_sampling_strategy="group_by_length", use_cpu=True, bf16=in_bf16, report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, dataloader_num_workers=0, remove_unused_columns=False,
        )  # fmt: skip
        trainer = Clocked(model=model, args=arguments, train_dataset=rows, data_collator=collate)
        turns.ready(parameters=parameters)
        trainer.train()


def decode(turns: Turns, model: Any, case: dict[str, Any], parameters: int) -> None:
    """Translates the sentences over and over."""
    model.eval()
    sources = json.loads((Path(case["folder"]) / "decode.json").read_text(encoding="utf-8"))
    size = case["sentences"]
    batches = [padded([[*ids, END] for ids in sources[i : i + size]]) for i in range(0, len(sources), size)]
    turns.ready(parameters=parameters)
    while True:
        for batch in batches:
            turns.unit(len(batch))
            outputs = model.generate(
                batch,
                attention_mask=(batch != PAD).long(),
                num_beams=case["beam_size"],
                length_penalty=case["beam_alpha"],
                min_new_tokens=case["tokens"],
                max_new_tokens=case["tokens"],
            )
            assert outputs.shape == (len(batch), 1 + case["tokens"])


if __name__ == "__main__":
    main()
