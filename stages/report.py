"""Stage `report`: one self-contained HTML page with its plots, from what the other stages measured."""

import base64
from pathlib import Path
from typing import Any

import jinja2

from stages import layout, plots
from stages.stage import Stage, read_json, stage

TEMPLATE = "report.html.jinja"


def main() -> None:
    with stage("report", layout.REPORT) as this:
        facts = _facts(this)
        images = _plots(facts, this.out)
        for path in images.values():
            this.run.artifact(path)
        page = render(facts, {name: path.read_bytes() for name, path in images.items()})
        (this.out / "index.html").write_text(page, encoding="utf-8")
        this.run.artifact(this.out / "index.html")
    print(f"report: {layout.REPORT / 'index.html'}")


def render(facts: dict[str, Any], images: dict[str, bytes]) -> str:
    """The page, with the PNG images in it. Whatever text comes from data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    embedded = {name: base64.b64encode(image).decode() for name, image in images.items()}
    return environment.get_template(TEMPLATE).render(**facts, images=embedded)


def _facts(this: Stage) -> dict[str, Any]:
    """Everything that the page shows, read from the stages' outputs."""
    translators = {
        name: {
            "training": read_json(layout.TRANSLATORS / name / layout.SUMMARY),
            "curve": read_json(layout.TRANSLATORS / name / layout.CURVE),
            "test": read_json(layout.EVALUATION / name / layout.SUMMARY),
            "examples": read_json(layout.EVALUATION / name / layout.EXAMPLES),
            "attention": read_json(layout.EVALUATION / name / layout.HEAT_MAP),
        }
        for name in this.params.pretraining.architectures
    }
    variants = {
        name: {
            "summary": read_json(layout.PREFIXES / name / layout.SUMMARY),
            "examples": read_json(layout.PREFIXES / name / layout.EXAMPLES),
        }
        for name in this.params.prefix_tuning.variants
    }
    return {
        "corpus": this.params.corpus.name,
        "encoded": read_json(layout.ENCODED / layout.SUMMARY),
        "translators": translators,
        "comparisons": read_json(layout.COMPARISONS / layout.SUMMARY),
        "language_model": read_json(layout.LANGUAGE_MODEL / layout.SUMMARY),
        "reward": read_json(layout.REWARD_MODEL / layout.SUMMARY),
        "reward_examples": read_json(layout.REWARD_MODEL / layout.EXAMPLES),
        "variants": variants,
    }


def _plots(facts: dict[str, Any], folder: Path) -> dict[str, Path]:
    paths = {
        "learning_curves": folder / "learning_curves.png",
        "reward": folder / "reward_model.png",
        "prefix": folder / "prefix_tuning.png",
    }
    translators = facts["translators"]
    plots.learning_curves(
        {n: t["curve"] for n, t in translators.items()},
        facts["encoded"]["unigram_perplexity"],
        paths["learning_curves"],
    )
    for name, translator in translators.items():
        paths[f"attention_{name}"] = folder / f"attention_{name}.png"
        plots.attention(translator["attention"], name, paths[f"attention_{name}"])
    plots.reward(facts["reward"], paths["reward"])
    plots.losses({n: v["summary"]["test_loss"] for n, v in facts["variants"].items()}, paths["prefix"])
    return paths


if __name__ == "__main__":
    main()
