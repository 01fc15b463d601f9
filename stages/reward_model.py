"""Stage `reward_model`: trains on whole rankings, then tests on prompts, and labelers, held out."""

from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pytorch_lightning as pl
from tokenizers import Tokenizer

from core.errors import InputError
from data.comparisons.collection import read_collection
from data.comparisons.encoding import EncodedRanking, Frame, encode_rankings
from data.comparisons.splitting import PARTS, labeler_folds, split_by_prompt
from data.tokenizer import load_tokenizer
from lightning_modules.language_model.top_layers import train_only_top_layers
from lightning_modules.prefix_tuning.prefix import Adapter, NoPrefix, Prefix, longest_text
from lightning_modules.reward_model.module import (
    RankingLoader,
    RewardModelModule,
    score,
    split_into_pairs,
)
from lightning_modules.shared_prompt.reading import shared_prompt_attention
from metrics.bleu_chrf import sentence_chrf
from metrics.rankings import accuracy, best_of_n, compare, evaluate, padded, temperature
from model_io.files import DEVICE, count_parameters
from model_io.reward_model import BUDGET, new_reward_model, save_reward_model
from stages.framework import layout
from stages.framework.params import RewardModelConfig
from stages.framework.stage import Stage, stage
from stages.training.fit import fit

DEMONSTRATIONS = 1000  # at most so many set the bias
BACKBONES = {"language_model": layout.LANGUAGE_MODEL, "base_model": layout.BASE_MODEL}


@dataclass(frozen=True)
class Part:
    """Rankings as records and as what the model reads, in the same order."""

    rows: datasets.Dataset
    rankings: list[EncodedRanking]

    def ranks(self) -> np.ndarray:
        return padded([g.ranks for g in self.rankings])

    def lengths(self) -> np.ndarray:
        return padded([[len(text) for text in responses] for responses in self.rows["responses"]])


def main() -> None:
    with stage("reward_model", layout.REWARD_MODELS, items="reward_models.variants") as this:
        settings = this.params.reward_models.variants[this.item]
        seed = this.params.seed if settings.seed is None else settings.seed
        pl.seed_everything(seed, verbose=False)
        rows = _parts(this, settings)
        model, tokenizer, frame = new_reward_model(
            BACKBONES.get(settings.backbone, settings.backbone), settings.template
        )
        backend = (
            load_tokenizer(BACKBONES[settings.backbone])
            if settings.backbone in BACKBONES
            else tokenizer.backend_tokenizer
        )
        adapter = _adapter(model, settings)
        longest = min(settings.max_length, longest_text(model, adapter))
        parts = {name: _encoded(name, part, backend, frame, settings, longest) for name, part in rows.items()}
        # Ties alone teach nothing unless they have a term.
        points = [g for g in parts["train"].rankings if settings.loss.ties == "soft" or len(set(g.ranks) - {0}) > 1]
        points = _sampled(points, settings.training_share, seed)
        if settings.mode == "shuffled_pairs":
            points = _sampled(split_into_pairs(points), settings.comparisons_share, seed)
        budget = settings.training.micro_batch_tokens
        train = RankingLoader(points, settings.batch_size, budget, seed=seed)
        validation = RankingLoader(parts["validation"].rankings, settings.batch_size, budget, shuffle=False)
        module = RewardModelModule(model, settings.training, len(train), settings.loss, adapter)
        module.train()  # a model from a folder comes in evaluation mode, without its dropout
        with shared_prompt_attention(model):
            learned = fit(this, module, train, validation, settings.training, settings.validations)

        module.to(DEVICE).eval()  # the trainer gives it back on the CPU
        scores = {name: _scores(model, part, adapter) for name, part in parts.items() if name != "train"}
        bias = -_mean_reward_of_references(model, parts["train"], backend, frame, adapter)
        found, examples = test(parts, scores, bias)
        this.write_json(layout.EVALUATED, found)
        this.run.artifact(this.out / layout.EVALUATED)
        this.write_json(layout.EXAMPLES, examples)
        fitted = found["test"]["temperature"]
        save_reward_model(this.out, model, tokenizer, frame, adapter, bias=bias, temperature=fitted)
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        this.summarise(
            {
                "parameters": count_parameters(model),
                "trained_parameters": trained,
                "updates": learned["updates"],
                "tokens": learned["tokens"],
                "seconds": learned["seconds"],
                "precision": learned["precision"],
                "rankings": {name: len(part.rankings) for name, part in parts.items()},
                "too_long_or_without_reference": sum(len(rows[n]) - len(parts[n].rankings) for n in rows if n in PARTS),
                **{name: _main_numbers(values) for name, values in found.items() if "accuracy" in values},
                "best_of_n": found["best_of_n"],
            }
        )


def _parts(this: Stage, settings: RewardModelConfig) -> dict[str, datasets.Dataset]:
    """Rankings for train, validation and test, by prompt; under `held_out_labelers` also the test prompts' by those labelers."""
    folder = layout.COMPARISONS / "rankings"
    rows = read_collection(folder)
    fractions = this.params.comparisons
    parts = split_by_prompt(rows, fractions.validation, fractions.test)
    if settings.held_out_labelers:
        fold = settings.held_out_labelers
        chosen = labeler_folds(rows, fold.folds)[fold.fold - 1]
        out = set(rows.select(chosen)["labeler"])
        split = {name: _by_labelers(part, out) for name, part in parts.items()}
        parts = {name: inside for name, (inside, _) in split.items()} | {"held_out_labelers": split["test"][1]}
    for name, part in parts.items():
        if not len(part):
            raise InputError(
                f"{folder}: too few prompts: none fell into the part '{name}' (those that share a reference stay together). "
                f"Add rankings, or change comparisons.validation and comparisons.test in params.yaml."
            )
    limits = {"validation": settings.validation_rankings, "test": settings.test_rankings}
    return {name: part.select(_sample(len(part), limits.get(name) or len(part))) for name, part in parts.items()}


def _sample(count: int, size: int) -> np.ndarray:
    """The same `size` of `count` rows in every run and model."""
    return np.sort(np.random.default_rng(0).permutation(count)[:size])


def _by_labelers(rows: datasets.Dataset, out: set[str]) -> tuple[datasets.Dataset, datasets.Dataset]:
    held = np.array([labeler in out for labeler in rows["labeler"]], bool)
    return rows.select(np.flatnonzero(~held)), rows.select(np.flatnonzero(held))


def _encoded(
    name: str, rows: datasets.Dataset, tokenizer: Tokenizer, frame: Frame, settings: RewardModelConfig, longest: int
) -> Part:
    found, kept = encode_rankings(rows, tokenizer, frame, settings.weighting, longest)
    part = Part(rows.select(kept), found)
    if not found or not len(compare(part.ranks(), part.ranks())):
        raise InputError(
            f"{name}: no comparison is left of {len(rows)} rankings: they have ties only, or texts above {longest} tokens "
            f"(reward_models: max_length, or the body's length), or lack what the template {settings.template!r} asks for."
        )
    return part


def _sampled(points: list[EncodedRanking], share: float, seed: int) -> list[EncodedRanking]:
    if share == 1:
        return points
    chosen = np.random.default_rng(seed).permutation(len(points))[: max(1, round(share * len(points)))]
    return [points[i] for i in np.sort(chosen)]


def _adapter(model: Any, settings: RewardModelConfig) -> Adapter:
    """Freezes what is not to learn, and makes the prefix where that is what learns."""
    if settings.trainable == "top_layers":
        train_only_top_layers(model, settings.num_top_layers, output=True)
    if settings.trainable != "prefix":
        return NoPrefix()
    model.base_model.requires_grad_(False)
    return Prefix(model, settings.prefix)


def _scores(model: Any, part: Part, adapter: Adapter) -> np.ndarray:
    return padded(
        [row.tolist() for row in score(model, [(g.prompt, g.responses) for g in part.rankings], BUDGET, adapter)]
    )


def _mean_reward_of_references(model: Any, part: Part, tokenizer: Tokenizer, frame: Frame, adapter: Adapter) -> float:
    """What the bias takes away, so that demonstrations (here the references of the training part) have mean reward 0."""
    shown = {
        (*g.prompt, text): (g.prompt, text)
        for g, text in zip(part.rankings, part.rows["reference"], strict=True)
        if text
    }
    sampled = list(shown.values())[:DEMONSTRATIONS]
    if not sampled:
        return 0.0
    texts = frame.responses(tokenizer, [text for _, text in sampled])
    cases = [(prompt, [ids]) for (prompt, _), ids in zip(sampled, texts, strict=True)]
    return float(np.mean([values[0] for values in score(model, cases, BUDGET, adapter)]))


def test(
    parts: dict[str, Part], scores: dict[str, np.ndarray], bias: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Metrics on held-out prompts (and labelers), beside length and chrF alone; what best-of-n gains; and examples."""
    validation = compare(scores["validation"], parts["validation"].ranks())
    fitted = temperature(validation.difference)
    found: dict[str, Any] = {
        name: evaluate(scores[name], part.ranks(), part.lengths(), fitted)
        for name, part in parts.items()
        if name in scores and name != "validation"
    }
    part = parts["test"]
    ranks, lengths = part.ranks(), part.lengths()
    # Length alone, in the direction (longer or shorter is better) that is right more often in training.
    longer = accuracy(compare(parts["train"].lengths(), parts["train"].ranks()).difference) >= 0.5
    found["baselines"] = {
        "length_accuracy": accuracy(compare(lengths if longer else -lengths, ranks).difference),
        "length_prefers": "longer" if longer else "shorter",
    }
    found["labelers"] = sorted(set(part.rows["labeler"]))[:20]
    found["best_of_n"] = {}
    known = np.array([i for i, reference in enumerate(part.rows["reference"]) if reference], int)
    if not len(known):
        return found, []
    rows = part.rows.select(known)
    chrf = padded([[sentence_chrf(text, row["reference"]) for text in row["responses"]] for row in rows])
    found["baselines"]["chrf_accuracy"] = accuracy(compare(chrf, ranks[known][:, : chrf.shape[1]]).difference)
    reward = scores["test"][known][:, : chrf.shape[1]]
    found["best_of_n"] = _best_of_n(rows, reward, chrf)
    return found, _examples(rows, reward + bias, chrf)


def _best_of_n(rows: datasets.Dataset, reward: np.ndarray, chrf: np.ndarray) -> dict[str, Any]:
    """chrF of the response with the highest reward, beside the mean, the best possible, and systems' first choices (`beam1`)."""
    there = padded([[1] * len(r) for r in rows["responses"]]) > 0
    best = np.where(there, reward, -np.inf).argmax(1)
    firsts = [
        [c for c, systems in zip(values, row or [], strict=False) for s in systems if s.endswith("/beam1")]
        for values, row in zip(chrf.tolist(), rows["systems"], strict=True)
    ]
    found = {
        "picked_chrf": float(chrf[np.arange(len(chrf)), best].mean()),
        "mean_chrf": float(((chrf * there).sum(1) / there.sum(1)).mean()),
        "best_possible_chrf": float(np.where(there, chrf, -1).max(1).mean()),
        "curve": best_of_n(reward, chrf, there),
    }
    if all(firsts):
        found["first_choice_chrf"] = float(np.mean([np.mean(f) for f in firsts]))
    return found


def _examples(rows: datasets.Dataset, reward: np.ndarray, chrf: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "prompt": row["prompt"],
            "reference": row["reference"],
            "responses": sorted(
                zip(reward[i].tolist(), chrf[i].tolist(), row["ranks"], row["responses"], strict=False),
                key=lambda r: -r[0],
            ),
        }
        for i, row in enumerate(rows.select(range(min(3, len(rows)))))
    ]


def _main_numbers(values: dict[str, Any]) -> dict[str, float]:
    names = ("accuracy", "log_loss", "calibration_error", "temperature", "kendall_tau", "comparisons")
    return {name: values[name] for name in names}


if __name__ == "__main__":
    main()
