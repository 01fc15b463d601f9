"""Training a reward model on rankings, beside TRL: `GRADUS_DATA=... python -m benchmarks.reward_model [CASE ...]`.

Same backbone (6 layers, 256 wide), same kind of rankings and tokens, float32, AdamW, as many rankings in every update. Each measurement is a
process of its own, all in one run. Systems:

- `shared_prompt`: this project; the prompt is read once for all its responses.
- `one_forward`: this project's loss with every response in a padded row of its own, behind its prompt.
- `trl`: TRL 1.16 RewardTrainer on all strict pairs of the first of these rankings, which it shuffles; eight at a time (its default), gradients
  accumulated over as many pairs as an update's rankings have.

Prints one JSON object: for each case and system rankings/s and comparisons/s (medians over updates; the first is left out) and peak memory.
`ratio` has the speed of shared prompts over that of `trl`, and over that of `one_forward`. `difference` is the largest between shared prompts and
separate rows, of loss and gradient.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import memory, peers
from core.errors import InputError
from core.process_setup import set_up_process
from data import mirror
from data.batching import padded
from data.comparisons.collection import read_collection
from data.comparisons.encoding import EncodedRanking, Frame, encode_rankings
from data.comparisons.importing.rankings import import_rankings
from data.comparisons.importing.source import Source
from data.tokenizer import BEGIN, END, PAD, SEPARATOR
from data.tokenizer_training import TokenizerConfig, train_tokenizer
from lightning_modules.reward_model.config import RewardTrainingConfig
from lightning_modules.reward_model.loss import ranking_loss
from lightning_modules.reward_model.module import (
    RankingLoader,
    RewardModelModule,
    batch_rankings,
    response_rewards,
    split_into_pairs,
)
from lightning_modules.shared_prompt.reading import shared_prompt_attention

set_up_process()

VOCABULARY = 8000
PAIRS_AT_ONCE = 8  # TRL's default
CASES = {  # rankings in an update, updates of shared_prompt and one_forward, of trl; tokens that ours forwards at once
    "k9_p128_r64": (4, 8, 3, 8192),
    "k9_p400_r50": (4, 8, 3, 8192),
    "wmt15": (32, 8, 3, 1024),
}
SYSTEMS = ("shared_prompt", "one_forward", "trl")
TRL = "trl==1.16.0"
TEMPLATE = "Reference: {reference}\nTranslation:"  # as in experiments/wmt15.yaml


def main() -> None:
    """Measures all cases, or those named; or, for its own processes, one system in one case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--measure", choices=[*SYSTEMS, "difference"], help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}: choose from {', '.join(CASES)}")
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.cases[0], _load(arguments.data))))
        return
    measures: dict[str, Any] = {"cores": os.cpu_count(), "torch": torch.__version__, "ratio": {}}
    with tempfile.TemporaryDirectory() as folder:
        data = {case: Path(folder) / f"{case}.json" for case in arguments.cases}
        for case, path in data.items():  # all of them first: what is missing shows before anything is measured
            path.write_text(json.dumps([vars(ranking) for ranking in _rankings(case, Path(folder))]))
        for case, path in data.items():
            measures[case] = {what: _in_a_process(what, case, path) for what in (*SYSTEMS, "difference")}
            rate = {system: measures[case][system]["rankings_per_second"] for system in SYSTEMS}
            measures["ratio"][case] = round(rate["shared_prompt"] / rate["trl"], 2)
            measures["ratio"][f"{case}_one_forward"] = round(rate["shared_prompt"] / rate["one_forward"], 2)
    print(json.dumps(measures))


def _in_a_process(what: str, case: str, data: Path) -> dict[str, float]:
    environment = peers.environment(TRL) if what == "trl" else dict(os.environ)
    command = [sys.executable, "-m", "benchmarks.reward_model", case, "--measure", what, "--data", str(data)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{case} {what}: {result}", file=sys.stderr, flush=True)
    return result


def _rankings(case: str, folder: Path) -> list[EncodedRanking]:
    """As many rankings as the case trains on: random ones of exact lengths, or those of WMT15."""
    size, updates, _, _ = CASES[case]
    random = np.random.default_rng(0)
    if case == "wmt15":
        rankings = _wmt15(folder)
        return [rankings[i] for i in random.permutation(len(rankings))[: size * updates]]
    prompt, response = (int(part[1:]) for part in case.split("_")[1:])

    def text(length: int) -> list[int]:
        tokens: list[int] = random.integers(4, VOCABULARY, length).tolist()
        return tokens

    return [
        EncodedRanking(text(prompt), [text(response) for _ in range(9)], random.permutation(np.arange(1, 10)).tolist())
        for _ in range(size * updates)
    ]


def _wmt15(folder: Path) -> list[EncodedRanking]:
    source = mirror.folder("wmt15")
    if not source:
        raise InputError(f"the case wmt15 needs {mirror.VARIABLE}, a data mirror with wmt15/ in it.")
    import_rankings([Source(source=str(source / "rankings.jsonl.gz"), format="wmt")], folder / "rankings")
    rows = read_collection(folder / "rankings")
    texts = [text for row in rows.select(range(2000)) for text in (row["prompt"], row["reference"], *row["responses"])]
    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=VOCABULARY))
    encoded = encode_rankings(rows, tokenizer, Frame(TEMPLATE, [BEGIN], [SEPARATOR], [END])).rankings
    return [g for g in encoded if len(set(g.ranks)) > 1]


def _load(path: Path) -> list[EncodedRanking]:
    return [EncodedRanking(**values) for values in json.loads(path.read_text())]


def _model() -> Any:
    from transformers import AutoModelForSequenceClassification, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=1024, pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END,
    )  # fmt: skip
    config.num_labels = 1
    return AutoModelForSequenceClassification.from_config(config)


def measure(system: str, case: str, rankings: list[EncodedRanking]) -> dict[str, float]:
    """One system's speed and memory in one case, or the difference between shared prompts and separate rows."""
    if system == "difference":
        return _difference(rankings[:4])
    size, _, few, budget = CASES[case]
    if system == "trl":
        rankings = rankings[: size * few]
        seconds = _trl(rankings, size)
    else:
        seconds = _ours(rankings, size, budget, _shared_prompt_loss if system == "shared_prompt" else _one_forward_loss)
    rate = size / statistics.median(seconds[1:])
    return {
        "rankings_per_second": round(rate, 4),
        "comparisons_per_second": round(rate * len(split_into_pairs(rankings)) / len(rankings), 2),
        "peak_mb": memory.peak(),
        "updates": len(seconds),
    }


def _shared_prompt_loss(module: RewardModelModule, batch: Any) -> torch.Tensor:
    return ranking_loss(module.rewards(batch), batch.ranks)


def _one_forward_loss(module: RewardModelModule, batch: Any) -> torch.Tensor:
    """Every response behind its prompt in a padded row; `batch` is (rows, place, ranks)."""
    texts, place, ranks = batch
    values = module.model(texts, attention_mask=(texts != PAD).long()).logits.squeeze(1)
    reward = values.new_zeros(ranks.numel()).index_put((place,), values).view_as(ranks)
    return ranking_loss(reward, ranks)


def _rows(rankings: Sequence[EncodedRanking]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch = batch_rankings(rankings)
    return padded([g.prompt + r for g in rankings for r in g.responses]), batch.place, batch.ranks


def _ours(
    rankings: list[EncodedRanking], size: int, budget: int, loss: Callable[[RewardModelModule, Any], torch.Tensor]
) -> list[float]:
    """Seconds of each update. Both of our systems take the same loop; rows are batched by the same budget of tokens."""
    separate = loss is _one_forward_loss
    module = RewardModelModule(_model(), RewardTrainingConfig(), len(rankings) // size)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5)
    seconds = []
    for start in range(0, len(rankings), size):
        before = time.perf_counter()
        chosen = sorted(rankings[start : start + size], key=len)
        optimizer.zero_grad()
        with nullcontext() if separate else shared_prompt_attention(module.model):
            for part in (
                _parts(chosen, budget) if separate else next(iter(RankingLoader(chosen, size, budget, shuffle=False)))
            ):
                (loss(module, part).sum() / size).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - before)
    return seconds


def _parts(chosen: list[EncodedRanking], budget: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    parts: list[list[EncodedRanking]] = [[]]
    for ranking in chosen:
        rows = [*parts[-1], ranking]
        if (
            parts[-1]
            and sum(len(g.responses) for g in rows) * max(len(g.prompt) + max(map(len, g.responses)) for g in rows)
            > budget
        ):
            parts.append([])
        parts[-1].append(ranking)
    return [_rows(part) for part in parts]


def _trl(rankings: list[EncodedRanking], size: int) -> list[float]:
    """Seconds of each update of TRL's trainer, as its callback sees them."""
    import datasets
    from transformers import PreTrainedTokenizerFast
    from trl import RewardConfig, RewardTrainer

    from benchmarks.trainer_clock import TrainerClock

    every = split_into_pairs(rankings)
    rows = datasets.Dataset.from_dict({
        "chosen_ids": [g.prompt + g.responses[0] for g in every],
        "rejected_ids": [g.prompt + g.responses[1] for g in every],
    })  # fmt: skip
    updates = len(rankings) // size
    clock = TrainerClock()
    with tempfile.TemporaryDirectory() as folder:
        config = RewardConfig(
            output_dir=folder, per_device_train_batch_size=PAIRS_AT_ONCE, max_steps=updates, learning_rate=1e-5, report_to=[],
            gradient_accumulation_steps=max(1, round(len(every) / updates / PAIRS_AT_ONCE)), max_length=None, bf16=False,
            gradient_checkpointing=False, save_strategy="no", logging_strategy="no", use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=train_tokenizer(["a"], TokenizerConfig(vocab_size=260)),
            pad_token="<pad>",
            eos_token="</s>",
        )
        trainer = RewardTrainer(
            model=_model(), args=config, train_dataset=rows, processing_class=tokenizer, callbacks=[clock]
        )
        trainer.train()
    return clock.seconds


def _difference(rankings: list[EncodedRanking]) -> dict[str, float]:
    """Largest difference between shared prompts and separate rows, of the loss and of any weight's gradient."""
    model = _model()
    results = []
    for separate in (False, True):
        model.zero_grad()
        if separate:
            reward = torch.cat([model(torch.tensor([g.prompt + r])).logits[0] for g in rankings for r in g.responses])
        else:
            reward = response_rewards(model, batch_rankings(rankings).row)
        batch = batch_rankings(rankings)
        loss = ranking_loss(
            reward.new_zeros(batch.ranks.numel()).index_put((batch.place,), reward).view_as(batch.ranks), batch.ranks
        ).mean()
        loss.backward()
        results.append((loss.item(), [p.grad.clone() for p in model.parameters()]))
    (loss_a, gradient_a), (loss_b, gradient_b) = results
    return {
        "loss": abs(loss_a - loss_b),
        "gradient": max((a - b).abs().max().item() for a, b in zip(gradient_a, gradient_b, strict=True)),
        "largest_gradient": max(a.abs().max().item() for a in gradient_a),
    }


if __name__ == "__main__":
    main()
