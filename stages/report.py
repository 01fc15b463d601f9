"""Stage `report`: one self-contained HTML page with its plots, from what the other stages measured."""

import base64
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

from core.headlines import headline_metrics
from stages.framework import layout
from stages.framework.params import Params
from stages.framework.stage import Stage, read_json, stage
from stages.reporting import plots
from stages.reporting.families import families

METRICS, CURVES = "metrics.json", "curves"
_OF_TRANSLATORS = (("pretraining", "training"), ("evaluation", "test"))
TEMPLATE = "report.html.jinja"
BASELINES = {"length alone": "length_accuracy", "chrF alone": "chrf_accuracy"}


def main() -> None:
    with stage("report", layout.REPORT) as this:
        facts = _facts(this)
        images = _plots(facts, this.out)
        for path in images.values():
            this.run.artifact(path)
        this.write_json(METRICS, nested(_headlines(facts)))
        (this.out / CURVES).mkdir()
        for name, curve in _curves(facts):
            this.write_json(f"{CURVES}/{name}.json", curve)
        page = render(facts, {name: path.read_bytes() for name, path in images.items()})
        (this.out / "index.html").write_text(page, encoding="utf-8")
        this.run.artifact(this.out / "index.html")
    print(f"report: {layout.REPORT / 'index.html'}")


def nested(metrics: dict[str, float]) -> dict[str, Any]:
    """Metrics by dotted name (`translator.luong.bleu`) as mappings in mappings."""
    values: dict[str, Any] = {}
    for name, value in metrics.items():
        *parents, last = name.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return values


def _headlines(facts: dict[str, Any]) -> dict[str, float]:
    """The headline metrics of all models, as MLflow shows them."""
    models = [
        *((f"{stage}@{name}", t[key]) for name, t in facts["translators"].items() for stage, key in _OF_TRANSLATORS),
        *((f"language_model@{name}", summary) for name, summary in facts["language_models"].items()),
        *(
            (f"reward_model@{name}", m["summary"])
            for _, _, models, _ in facts["collections"]
            for name, m in models.items()
        ),
        *((f"prefix_tuning@{name}", v["summary"]) for name, v in facts["variants"].items()),
        *((f"long_lag@{name}", t["summary"]) for name, t in facts["long_lag"].items()),
    ]
    return {metric: value for stage, summary in models for metric, value in headline_metrics(stage, summary).items()}


def _curves(facts: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The learning curve of every model that was trained, with a name."""
    yield from ((f"translator_{name}", t["curve"]) for name, t in facts["translators"].items())
    yield from (
        (f"reward_model_{name}", m["curve"]) for _, _, models, _ in facts["collections"] for name, m in models.items()
    )
    yield from ((f"prefix_tuning_{name}", v["curve"]) for name, v in facts["variants"].items() if v["curve"])


def render(facts: dict[str, Any], images: dict[str, bytes]) -> str:
    """The page, with the PNG images in it. Whatever text comes from data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(plots.__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    embedded = {name: base64.b64encode(image).decode() for name, image in images.items()}
    return environment.get_template(TEMPLATE).render(**facts, images=embedded)


def _facts(this: Stage) -> dict[str, Any]:
    """Everything that the page shows, read from the stages' outputs."""
    params = this.params
    translators = {
        name: {
            "training": read_json(layout.TRANSLATORS / name / layout.SUMMARY),
            "curve": read_json(layout.TRANSLATORS / name / layout.CURVE),
            "test": read_json(layout.EVALUATION / name / layout.SUMMARY),
            "examples": read_json(layout.EVALUATION / name / layout.EXAMPLES),
            "attention": read_json(layout.EVALUATION / name / layout.HEAT_MAP),
        }
        for name in (params.pretraining.architectures if params.pretraining else ())
    }
    variants = {
        name: {
            "config": config.model_dump(),
            "summary": read_json(layout.PREFIXES / name / layout.SUMMARY),
            "examples": read_json(layout.PREFIXES / name / layout.EXAMPLES),
            "curve": read_json(curve) if (curve := layout.PREFIXES / name / layout.CURVE).is_file() else [],
        }
        for name, config in (params.prefix_tuning.variants.items() if params.prefix_tuning else ())
    }
    long_lag = {
        name: {
            "summary": read_json(layout.LONG_LAG / name / layout.SUMMARY),
            "curve": read_json(layout.LONG_LAG / name / layout.CURVE),
        }
        for name in (params.long_lag.tasks if params.long_lag else ())
    }
    return {
        "title": f"the corpus {params.corpus.name}" if params.corpus else experiment_title(params),
        "encoded": read_json(layout.ENCODED / layout.SUMMARY) if params.encoding else None,
        "language_models": {
            name: read_json(layout.LANGUAGE_MODELS / name / layout.SUMMARY) for name in params.language_models
        },
        "translators": translators,
        "collections": [_collection(name, params) for name in [*params.reference_comparisons, *params.comparisons]],
        "variants": variants,
        "few_examples": few_examples(variants),
        "written": by_source({name: variant["examples"] for name, variant in variants.items()}),
        "long_lag": long_lag,
    }


def experiment_title(params: Params) -> str:
    """What a run without a corpus is about: its sections."""
    return (
        ", ".join(name.replace("_", " ") for name in ("reward_models", "long_lag") if getattr(params, name))
        or "rankings"
    )


def _collection(name: str, params: Params) -> tuple[str, dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """A comparison collection: its name, its summary, the reward models that learned from it, and their folds."""
    models = {
        model: {
            "config": config.model_dump(),
            "summary": read_json(layout.REWARD_MODELS / model / layout.SUMMARY),
            "curve": read_json(layout.REWARD_MODELS / model / layout.CURVE),
            "evaluation": read_json(layout.REWARD_MODELS / model / layout.EVALUATED),
            "examples": read_json(layout.REWARD_MODELS / model / layout.EXAMPLES),
        }
        for model, config in (params.reward_models.variants.items() if params.reward_models else ())
        if config.collection == name
    }
    return name, read_json(layout.COMPARISONS / name / layout.SUMMARY), models, held_out_labelers(models)


def by_source(examples: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What each variant wrote, side by side under its source: a longer prefix leaves no room for some, so not all have the same."""
    rows: dict[str, dict[str, Any]] = {}
    for name, written in examples.items():
        for e in written:
            row = rows.setdefault(e["source"], {"source": e["source"], "reference": e["references"][0], "outputs": {}})
            row["outputs"][name] = e["output"]
    return list(rows.values())


def few_examples(variants: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """For ways of adapting that were tried with several numbers of examples: how many seeds, and mean and deviation of loss and BLEU.

    Variants that differ in examples, seed and epochs only are one way, named by the first one's name without numbers at its end.
    """
    lines = {}
    without_epochs = {
        name: {"config": {**v["config"], "training": {**v["config"]["training"], "num_train_epochs": None}}}
        for name, v in variants.items()
    }
    for names in families(without_epochs, "examples", "seed"):
        by_count = defaultdict(list)
        for name in names:
            by_count[variants[name]["summary"]["examples"]].append(variants[name]["summary"])
        if len(by_count) > 1:
            way = names[0].rstrip("_0123456789") or names[0]
            lines[way] = [
                {"examples": count, "seeds": len(seeds), **{key: _spread(seeds, key) for key in ("test_loss", "bleu")}}
                for count, seeds in sorted(by_count.items())
            ]
    return lines


def _spread(summaries: list[dict[str, Any]], key: str) -> tuple[float, float]:
    """Mean and standard deviation."""
    values = [summary[key] for summary in summaries]
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def held_out_labelers(models: dict[str, Any]) -> list[dict[str, Any]]:
    """For models that differ in their fold only: over all their comparisons, how right they are on labelers held out, and on the others."""
    folds = {name: model for name, model in models.items() if "held_out_labelers" in model["evaluation"]}
    return [
        _over_folds(names, [models[name]["evaluation"] for name in names])
        for names in families(folds, "held_out_labelers")
    ]


def _over_folds(names: list[str], folds: list[dict[str, Any]]) -> dict[str, Any]:
    means: dict[str, Any] = {"models": names}
    for part in ("held_out_labelers", "test"):
        counts = [fold[part]["comparisons"] for fold in folds]
        for key in ("accuracy", "log_loss"):
            values = [fold[part][key] for fold in folds]
            means[f"{part}_{key}"] = sum(c * v for c, v in zip(counts, values, strict=True)) / sum(counts)
        accuracies = [fold[part]["accuracy"] for fold in folds]
        means[f"{part}_deviation"] = statistics.stdev(accuracies) if len(folds) > 1 else 0.0
        means[f"{part}_comparisons"] = sum(counts)
    return means


def _plots(facts: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Draws what there is; returns the images by name."""
    paths: dict[str, Path] = {}

    def path(name: str) -> Path:
        paths[name] = folder / f"{name}.png"
        return paths[name]

    if translators := facts["translators"]:
        curves = {name: translator["curve"] for name, translator in translators.items()}
        plots.learning_curves(curves, facts["encoded"]["unigram_perplexity"], path("learning_curves"))
    for name, translator in translators.items():
        if translator["attention"] is not None:
            plots.attention(translator["attention"], name, path(f"attention_{name}"))
    for name, summary, models, _ in facts["collections"]:
        if models:
            plots.reward_models(models, _baselines(summary, models), path(f"reward_{name}"))
    if variants := facts["variants"]:
        plots.losses({name: variant["summary"]["test_loss"] for name, variant in variants.items()}, path("prefix"))
    if facts["few_examples"]:
        plots.few_examples(facts["few_examples"], path("few_examples"))
    if facts["long_lag"]:
        plots.long_lag(facts["long_lag"], path("long_lag"))
    return paths


def _baselines(collection: dict[str, Any], models: dict[str, Any]) -> dict[str, float]:
    """Accuracies that a reward model is compared with."""
    first = next(iter(models.values()))["evaluation"]["baselines"]
    baselines = {"chance": 0.5, **{name: first[key] for name, key in BASELINES.items() if key in first}}
    agreement = collection.get("agreement", {}).get("strict")
    return baselines if agreement is None else {**baselines, "labelers with each other": agreement}


if __name__ == "__main__":
    main()
