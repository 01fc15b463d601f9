"""Stage `reward_model`: trains on whole rankings, then tests: comparisons, baselines, best of n."""

from typing import Any

import datasets
import pytorch_lightning as pl
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from data.batching import causal_text, padded
from data.comparisons.collection import read_collection
from data.comparisons.reference_labeler import sentence_chrf
from data.comparisons.splitting import PARTS, split_by_prompt
from data.errors import InputError
from data.tokenizer import encode, load_tokenizer
from lightning_modules.reward_model import Group, RewardModel, group_loader, pairwise_metrics, rewards
from stages import layout
from stages.fitting import fit
from stages.model_files import copy_tokenizer, count_parameters
from stages.stage import stage

SCORED_AT_ONCE = 128


def main() -> None:
    with stage("reward_model", layout.REWARD_MODEL) as this:
        collection = layout.COMPARISONS / "rankings"
        settings, seed = this.params.reward_model, this.params.seed
        pl.seed_everything(seed, verbose=False)
        parts = split_by_prompt(
            read_collection(collection), this.params.comparisons.validation, this.params.comparisons.test
        )
        for part in PARTS:
            if not len(parts[part]):
                raise InputError(
                    f"{collection}: too few prompts: none fell into the part '{part}'. "
                    f"Add rankings, or change comparisons.validation and comparisons.test in params.yaml."
                )
        tokenizer = load_tokenizer(layout.LANGUAGE_MODEL)
        groups = {part: _groups(rows, tokenizer) for part, rows in parts.items()}
        model = AutoModelForSequenceClassification.from_pretrained(
            layout.LANGUAGE_MODEL, num_labels=1, dtype=torch.float32
        )
        budget = settings.training.tokens_per_batch
        train = group_loader(groups["train"], budget, seed=seed)
        validation = group_loader(groups["validation"], budget, shuffle=False)
        module = RewardModel(model, settings.training, len(train))
        learned = fit(this, module, train, validation, settings.training)

        model.eval()
        model.save_pretrained(this.out)
        copy_tokenizer(layout.LANGUAGE_MODEL, this.out)
        # The bias of the paper: demonstrations (here the references of the training part) have mean reward 0.
        shown = [
            (g.prompt, ids)
            for g, ids in zip(groups["train"], _references(parts["train"], tokenizer), strict=True)
            if ids
        ]
        bias = -sum(score(model, shown)) / max(1, len(shown))
        this.write_json("reward.json", {"bias": bias})
        tested, examples = test(model, parts, groups, bias)
        this.write_json(layout.EXAMPLES, examples)
        this.summarise(
            {
                "parameters": count_parameters(model),
                "seconds": learned["seconds"],
                "groups": {p: len(g) for p, g in groups.items()},
                **tested,
            }
        )


def _groups(rows: datasets.Dataset, tokenizer: Any) -> list[Group]:
    prompts = encode(tokenizer, list(rows["prompt"]))
    sizes = [len(r) for r in rows["responses"]]
    flat = iter(encode(tokenizer, [text for responses in rows["responses"] for text in responses]))
    return [
        Group(p, [next(flat) for _ in range(k)], ranks)
        for p, k, ranks in zip(prompts, sizes, rows["ranks"], strict=True)
    ]


def _references(rows: datasets.Dataset, tokenizer: Any) -> list[list[int]]:
    return encode(tokenizer, [r or "" for r in rows["reference"]])


@torch.inference_mode()
def score(model: PreTrainedModel, pairs: list[tuple[list[int], list[int]]]) -> list[float]:
    """Rewards, without the bias, of (prompt, response) pairs of piece ids, in order."""
    found: list[float] = [0.0] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    for start in range(0, len(order), SCORED_AT_ONCE):
        chosen = order[start : start + SCORED_AT_ONCE]
        values = rewards(model, padded([causal_text(*pairs[i]) for i in chosen]).to(model.device))
        for i, value in zip(chosen, values.tolist(), strict=True):
            found[i] = value
    return found


def test(
    model: PreTrainedModel, parts: dict[str, datasets.Dataset], groups: dict[str, list[Group]], bias: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Metrics on the prompts held out for testing, beside chance and length alone, and what best-of-n gains; and examples."""
    rows = parts["test"]
    flat = iter(score(model, [(g.prompt, r) for g in groups["test"] for r in g.responses]))
    scores = [[next(flat) + bias for _ in g.responses] for g in groups["test"]]
    model_metrics = pairwise_metrics(_scored(scores, rows))
    # Length alone, in the direction (longer or shorter is better) that is right more often in training.
    longer = pairwise_metrics(_scored(_lengths(parts["train"]), parts["train"]))["accuracy"] >= 0.5
    length = pairwise_metrics(_scored([[v if longer else -v for v in row] for row in _lengths(rows)], rows))["accuracy"]
    found = {
        "accuracy": model_metrics["accuracy"],
        "log_loss": model_metrics["log_loss"],
        "comparisons": model_metrics["comparisons"],
        "chance_accuracy": 0.5,
        "chance_log_loss": pairwise_metrics([])["log_loss"],
        "length_accuracy": length,
        "length_prefers": "longer" if longer else "shorter",
        "labelers": sorted(set(rows["labeler"]))[:20],
    }
    gains, examples = best_of_n(rows, scores)
    return {**found, "best_of_n": gains}, examples


def best_of_n(rows: datasets.Dataset, scores: list[list[float]]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Mean sentence chrF of the response with the highest reward, beside the mean, the best possible, and first choices.

    A first choice is a system's `beam1`; over several systems their mean.
    """
    kept: list[tuple[float, float, float, float]] = []
    examples: list[dict[str, Any]] = []
    for row, reward in zip(rows, scores, strict=True):
        if not row["reference"]:
            continue
        chrf = [sentence_chrf(text, row["reference"]) for text in row["responses"]]
        best = max(range(len(chrf)), key=reward.__getitem__)
        firsts = [
            c for c, systems in zip(chrf, row["systems"] or [], strict=False) for s in systems if s.endswith("/beam1")
        ]
        mean = sum(chrf) / len(chrf)
        kept.append((chrf[best], mean, max(chrf), sum(firsts) / len(firsts) if firsts else mean))
        if len(examples) < 3:
            responses = sorted(zip(reward, chrf, row["responses"], strict=True), reverse=True)
            examples.append({"prompt": row["prompt"], "reference": row["reference"], "responses": responses})
    names = ("picked_chrf", "mean_chrf", "best_possible_chrf", "first_choice_chrf")
    return {
        name: sum(column) / len(kept) for name, column in zip(names, zip(*kept, strict=True), strict=True)
    } if kept else {}, examples


def _scored(scores: list[list[float]], rows: datasets.Dataset) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.tensor([s]), torch.tensor([r])) for s, r in zip(scores, rows["ranks"], strict=True)]


def _lengths(rows: datasets.Dataset) -> list[list[float]]:
    return [[float(len(text)) for text in responses] for responses in rows["responses"]]


if __name__ == "__main__":
    main()
