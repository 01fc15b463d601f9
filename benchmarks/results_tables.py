"""The README's tables of the default run, from artifacts/: `python -m benchmarks.results_tables [README.md]`.

Prints the tables, or writes them into the named file between its comments `<!-- results: ... -->` and `<!-- /results -->`.
"""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ARTIFACTS = Path("artifacts")
RESULTS = re.compile(r"(<!-- results: [^>]* -->\n).*(<!-- /results -->)", re.DOTALL)


def summaries(folder: str, file: str = "summary.json") -> dict[str, Any]:
    """What was measured of each model in a folder of artifacts/, by the model's name."""
    paths = sorted((ARTIFACTS / folder).glob(f"*/{file}"))
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def table(columns: str, rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; `columns` are its headings, those that end in `:` aligned to the right."""
    cells = [column.strip() for column in columns.split("|")]
    rule = ["---:" if cell.endswith(":") else "---" for cell in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in ([c.rstrip(":") for c in cells], rule, *rows))


def translators() -> str:
    """Size, seconds of training, perplexity on validation, and scores on test, beside two baselines."""
    scores = summaries("evaluation")
    rows = [
        [
            f"`{name}`",
            f"{trained['parameters'] / 1e6:.1f} M",
            f"{trained['seconds']:.0f} s",
            f"{trained['validation_perplexity']:.1f}",
            f"{scores[name]['bleu']:.1f}",
            f"{scores[name]['chrf']:.1f}",
        ]
        for name, trained in summaries("translators").items()
    ]
    last = next(reversed(scores.values()))
    copied = last["copy_of_source"]
    unigram = json.loads((ARTIFACTS / "encoded" / "summary.json").read_text())["unigram_perplexity"]
    rows.append(["copy of the source", "", "", "", f"{copied['bleu']:.1f}", f"{copied['chrf']:.1f}"])
    rows.append(["unigram model", "", "", f"{unigram:.0f}", "", ""])
    signatures = (
        f"sacreBLEU `{last['bleu_signature']}`, chrF `{last['chrf_signature']}`, {last['sentences']} test verses."
    )
    return f"{table('Translator | parameters: | training: | perplexity: | BLEU: | chrF:', rows)}\n\n{signatures}"


def reward_models() -> str:
    """Agreement with held-out rankings, and chrF of the best of n responses, beside their baselines."""
    rows = []
    for name, values in summaries("reward_models", "evaluation.json").items():
        test, best = values["test"], values["best_of_n"]
        right = [(f"`{name}`", test["accuracy"], test["log_loss"])]
        right += [("length alone", values["baselines"]["length_accuracy"], None)]
        right += [("chance", test["chance_accuracy"], test["chance_log_loss"])]
        chosen = [("picked by the reward model", f"{best['picked_chrf']:.1f}")]
        chosen += [("translators' first choice", f"{best['first_choice_chrf']:.1f}")]
        chosen += [("mean / best possible", f"{best['mean_chrf']:.1f} / {best['best_possible_chrf']:.1f}")]
        for (who, accuracy, loss), (how, chrf) in zip(right, chosen, strict=True):
            rows.append(
                [who, f"{accuracy:.1%}".replace("%", " %"), "" if loss is None else f"{loss:.3f}", "", how, chrf]
            )
    return table("Reward model | comparisons right: | log loss: | | Best of n | chrF:", rows)


def prefix_tuning() -> str:
    """Kept parameters and scores of each variant, the weakest first."""
    variants = sorted(summaries("prefix_tuning").items(), key=lambda variant: -variant[1]["test_loss"])
    rows = [
        [
            f"`{name}`",
            f"{values['kept_parameters']:,} ({values['share_of_base']:.3%})".replace("%", " %"),
            f"{values['test_loss']:.2f}",
            f"{values['bleu']:.1f}",
            f"{values['chrf']:.1f}",
        ]
        for name, values in variants
    ]
    return table("Prefix-tuning of SmolLM2-135M | kept parameters: | loss on the target: | BLEU: | chrF:", rows)


def main() -> None:
    tables = "\n\n".join([translators(), reward_models(), prefix_tuning()])
    if len(sys.argv) == 1:
        print(tables)
        return
    page = Path(sys.argv[1])
    text, count = RESULTS.subn(lambda match: f"{match[1]}{tables}\n{match[2]}", page.read_text(encoding="utf-8"))
    if count != 1:
        sys.exit(f"{page}: one pair of comments <!-- results: ... --> and <!-- /results --> expected, found {count}")
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
