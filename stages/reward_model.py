"""Stage `reward_model`: trains on whole rankings, then tests on prompts, and labelers, held out."""

from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pytorch_lightning as pl
from tokenizers import Tokenizer

from core.errors import InputError
from core.progress import Progress, track
from data.comparisons.collection import read_collection
from data.comparisons.encoding import EncodedRanking, EncodedRankings, Frame, encode_rankings
from data.comparisons.splitting import labeler_folds, split_by_prompt
from data.tokenizer import load_tokenizer
from lightning_modules.language_model.top_layers import train_only_top_layers
from lightning_modules.prefix_tuning.base_model import max_text_length
from lightning_modules.prefix_tuning.prefix import Adapter, NoPrefix, Prefix
from lightning_modules.reward_model.module import (
    RankingLoader,
    RewardModelModule,
    score,
    split_into_pairs,
)
from lightning_modules.shared_prompt.reading import shared_prompt_attention
from metrics.rankings import accuracy, best_of_n, compare, evaluate, padded, temperature
from metrics.sentence_chrf import sentence_chrf
from model_io.files import DEVICE, count_parameters
from model_io.reward_model import (
    SCORING_TOKENS,
    SavedRewardModel,
    new_reward_model,
    save_reward_model,
    start_from_reward_model,
)
from stages.configs.reward_models import RewardModelVariantConfig
from stages.framework import layout
from stages.framework.params import required
from stages.framework.stage import Stage, stage
from stages.framework.warm_start import existing_init_folder
from stages.training.fit import fit

DEMONSTRATIONS = 1000  # at most so many set the bias


@dataclass(frozen=True)
class Part:
    """Rankings as records and as what the model reads, in the same order."""

    rows: datasets.Dataset
    encoded: EncodedRankings

    @property
    def rankings(self) -> list[EncodedRanking]:
        return self.encoded.rankings

    def ranks(self) -> np.ndarray:
        """(G, K)"""
        return padded([ranking.ranks for ranking in self.rankings])

    def lengths(self) -> np.ndarray:
        """(G, K) characters of the responses."""
        return padded([[len(text) for text in responses] for responses in self.rows["responses"]])


def main() -> None:
    with stage("reward_model", layout.REWARD_MODELS, items="reward_models.variants") as this:
        config = required(this.params.reward_models).variants[this.item]
        seed = this.params.seed if config.seed is None else config.seed
        pl.seed_everything(seed, verbose=False)
        rows = _parts(this, config)
        model, tokenizer, frame = new_reward_model(layout.ARTIFACTS / config.backbone, config.template)
        backend = load_tokenizer(layout.ARTIFACTS / config.backbone)
        earlier = None
        if folder := existing_init_folder(this):
            virtual_tokens = config.prefix.num_virtual_tokens if config.trainable == "prefix" else 0
            earlier = start_from_reward_model(model, tokenizer, frame, virtual_tokens, folder)
        adapter = _adapter(model, config, earlier)
        longest = min(config.max_length, max_text_length(model, len(adapter.prompt_embeddings())))
        parts = {name: _encoded(name, part, backend, frame, config, longest) for name, part in rows.items()}
        micro_batch_tokens = config.training.micro_batch_tokens
        train = RankingLoader(
            _training_rankings(parts["train"].rankings, config, seed), config.batch_size, micro_batch_tokens, seed=seed
        )
        validation = RankingLoader(parts["validation"].rankings, config.batch_size, micro_batch_tokens, shuffle=False)
        module = RewardModelModule(model, config.training, len(train), config.loss, adapter)
        module.train()  # a model from a folder comes in evaluation mode, without its dropout
        with shared_prompt_attention(model):
            learned = fit(this, module, train, validation, config.training, config.validations)

        module.to(DEVICE).eval()  # the trainer gives it back on the CPU
        scores = {
            name: _scores(model, part, adapter, f"{this.name} scores of {name}")
            for name, part in parts.items()
            if name != "train"
        }
        bias = _bias(model, parts["train"], backend, frame, adapter, earlier.bias if earlier else 0.0)
        evaluation, examples = test(parts, scores, bias, f"{this.name} chrF")
        this.write_json(layout.EVALUATED, evaluation)
        this.run.artifact(this.out / layout.EVALUATED)
        this.write_json(layout.EXAMPLES, examples)
        fitted_temperature = evaluation["test"]["temperature"]
        save_reward_model(this.out, model, tokenizer, frame, adapter, bias=bias, temperature=fitted_temperature)
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
                "dropped": {name: part.encoded.dropped for name, part in parts.items()},
                "truncated": {name: part.encoded.truncated for name, part in parts.items()},
                "without_reference": {name: part.encoded.without_reference for name, part in parts.items()},
                **{name: _main_numbers(values) for name, values in evaluation.items() if "accuracy" in values},
                "best_of_n": evaluation["best_of_n"],
            }
        )


def _parts(this: Stage, config: RewardModelVariantConfig) -> dict[str, datasets.Dataset]:
    """Rankings for `train`, `validation` and `test`, by prompt.

    Where labelers are held out, their rankings are in none of these; those of test prompts are the part `held_out_labelers`.

    Raises:
        InputError: a part is empty.
    """
    folder = layout.COMPARISONS / config.collection / "rankings"
    rows = read_collection(folder)
    split = required(this.params.reward_models).split
    parts = split_by_prompt(rows, split.validation, split.test)
    if config.held_out_labelers:
        fold = config.held_out_labelers
        indices = labeler_folds(rows, fold.folds)[fold.fold - 1]
        labelers = set(rows.select(indices)["labeler"])
        _, held_out = _by_labelers(parts["test"], labelers)
        parts = {name: _by_labelers(part, labelers)[0] for name, part in parts.items()}
        parts["held_out_labelers"] = held_out
    for name, part in parts.items():
        if not len(part):
            raise InputError(
                f"{folder}: too few prompts: the part '{name}' has none (prompts that share a reference are in one part). "
                "Add rankings, or change reward_models.split in params.yaml."
            )
    limits = {"validation": config.validation_rankings, "test": config.test_rankings}
    return {name: part.select(_sample(len(part), limits.get(name) or len(part))) for name, part in parts.items()}


def _sample(count: int, size: int) -> np.ndarray:
    """Indices of `size` of `count` rows, the same in every run and for every model."""
    return np.sort(np.random.default_rng(0).permutation(count)[:size])


def _by_labelers(rows: datasets.Dataset, held_out: set[str]) -> tuple[datasets.Dataset, datasets.Dataset]:
    """The rankings of all other labelers, and those of the labelers held out."""
    mask = np.array([labeler in held_out for labeler in rows["labeler"]], bool)
    return rows.select(np.flatnonzero(~mask)), rows.select(np.flatnonzero(mask))


def _encoded(
    name: str,
    rows: datasets.Dataset,
    tokenizer: Tokenizer,
    frame: Frame,
    config: RewardModelVariantConfig,
    max_length: int,
) -> Part:
    """A part's rankings as the model reads them. Raises InputError where no comparison is left."""
    encoded = encode_rankings(rows, tokenizer, frame, config.weighting, max_length, config.overlong)
    part = Part(rows.select(encoded.indices), encoded)
    if not part.rankings or not len(compare(part.ranks(), part.ranks())):
        raise InputError(
            f"{name}: no comparison is left of {len(rows)} rankings: {encoded.dropped} are longer than {max_length} tokens "
            f"(reward_models: max_length, or what the backbone reads), {encoded.without_reference} lack the reference that the "
            f"template {config.template!r} asks for, the others have ties only."
        )
    return part


def _training_rankings(
    rankings: list[EncodedRanking], config: RewardModelVariantConfig, seed: int
) -> list[EncodedRanking]:
    """The batch elements: rankings, or pairs of two responses; a sample of them where the config says so."""
    # Ties alone teach nothing unless they have a term.
    rankings = [r for r in rankings if config.loss.ties == "soft" or len(set(r.ranks) - {0}) > 1]
    rankings = _sampled(rankings, config.training_share, seed)
    if config.mode == "shuffled_pairs":
        rankings = _sampled(split_into_pairs(rankings), config.comparisons_share, seed)
    return rankings


def _sampled(rankings: list[EncodedRanking], share: float, seed: int) -> list[EncodedRanking]:
    if share == 1:
        return rankings
    indices = np.random.default_rng(seed).permutation(len(rankings))[: max(1, round(share * len(rankings)))]
    return [rankings[i] for i in np.sort(indices)]


def _adapter(model: Any, config: RewardModelVariantConfig, earlier: SavedRewardModel | None) -> Adapter:
    """Freezes the weights that are not trained; makes the prefix where a prefix is trained, which starts from an `earlier` one."""
    if config.trainable == "top_layers":
        train_only_top_layers(model, config.num_top_layers, output=True)
    if config.trainable != "prefix":
        return NoPrefix()
    model.base_model.requires_grad_(False)
    initial = earlier.adapter.prompt_embeddings().detach() if earlier and earlier.adapter else None
    return Prefix(model, config.prefix, initial)


def _scores(model: Any, part: Part, adapter: Adapter, title: str) -> np.ndarray:
    """(G, K) scores of a part's responses, with a progress bar of this title."""
    texts = [(ranking.prompt, ranking.responses) for ranking in part.rankings]
    bar = Progress(title, len(texts))
    bar.update(0)
    return padded([row.tolist() for row in score(model, texts, SCORING_TOKENS, adapter, bar.update)])


def _bias(
    model: Any, part: Part, tokenizer: Tokenizer, frame: Frame, adapter: Adapter, without_demonstrations: float
) -> float:
    """The bias with which demonstrations, the references of the training part, have mean reward 0."""
    distinct = {
        (*ranking.prompt, text): (ranking.prompt, text)
        for ranking, text in zip(part.rankings, part.rows["reference"], strict=True)
        if text
    }
    demonstrations = list(distinct.values())[:DEMONSTRATIONS]
    if not demonstrations:
        return without_demonstrations
    responses = frame.responses(tokenizer, [text for _, text in demonstrations])
    cases = [(prompt, [ids]) for (prompt, _), ids in zip(demonstrations, responses, strict=True)]
    return -float(np.mean([values[0] for values in score(model, cases, SCORING_TOKENS, adapter)]))


def test(
    parts: dict[str, Part], scores: dict[str, np.ndarray], bias: float, title: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Metrics on held-out prompts (and labelers), beside length and chrF alone; the gain of best-of-n; and examples.

    The progress bar of chrF, which takes longest, has this title.
    """
    validation = compare(scores["validation"], parts["validation"].ranks())
    fitted_temperature = temperature(validation.difference)
    evaluation: dict[str, Any] = {
        name: evaluate(scores[name], part.ranks(), part.lengths(), fitted_temperature)
        for name, part in parts.items()
        if name in scores and name != "validation"
    }
    part = parts["test"]
    ranks, lengths = part.ranks(), part.lengths()
    # Length alone, in the direction (longer or shorter is better) that is right more often in training.
    longer = accuracy(compare(parts["train"].lengths(), parts["train"].ranks()).difference) >= 0.5
    evaluation["baselines"] = {
        "length_accuracy": accuracy(compare(lengths if longer else -lengths, ranks).difference),
        "length_prefers": "longer" if longer else "shorter",
    }
    evaluation["labelers"] = sorted(set(part.rows["labeler"]))[:20]
    evaluation["best_of_n"] = {}
    with_reference = np.array([i for i, reference in enumerate(part.rows["reference"]) if reference], int)
    if not len(with_reference):
        return evaluation, []
    rows = part.rows.select(with_reference)
    chrf = padded([[sentence_chrf(text, row["reference"]) for text in row["responses"]] for row in track(rows, title)])
    ranks, reward = ranks[with_reference][:, : chrf.shape[1]], scores["test"][with_reference][:, : chrf.shape[1]]
    evaluation["baselines"]["chrf_accuracy"] = accuracy(compare(chrf, ranks).difference)
    evaluation["best_of_n"] = _best_of_n(rows, reward, chrf)
    return evaluation, _examples(rows, reward + bias, chrf)


def _best_of_n(rows: datasets.Dataset, reward: np.ndarray, chrf: np.ndarray) -> dict[str, Any]:
    """chrF of the response with the highest reward, beside the mean, the best possible, and systems' first choices (`beam1`)."""
    mask = padded([[1] * len(responses) for responses in rows["responses"]]) > 0
    best = np.where(mask, reward, -np.inf).argmax(1)
    first_choices = [
        [value for value, systems in zip(values, row or [], strict=False) for s in systems if s.endswith("/beam1")]
        for values, row in zip(chrf.tolist(), rows["systems"], strict=True)
    ]
    measures = {
        "picked_chrf": float(chrf[np.arange(len(chrf)), best].mean()),
        "mean_chrf": float(((chrf * mask).sum(1) / mask.sum(1)).mean()),
        "best_possible_chrf": float(np.where(mask, chrf, -1).max(1).mean()),
        "curve": best_of_n(reward, chrf, mask),
    }
    if all(first_choices):
        measures["first_choice_chrf"] = float(np.mean([np.mean(values) for values in first_choices]))
    return measures


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
