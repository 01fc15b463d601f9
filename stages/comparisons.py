"""Stage `comparisons`: responses, labelers' exports and other imports -> one comparison collection."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import datasets

from core.errors import InputError
from core.progress import Progress
from data.comparisons.collection import read_collection
from data.comparisons.importing.appending import append_rankings
from data.comparisons.importing.rankings import import_rankings
from data.comparisons.importing.report import ImportReport
from data.comparisons.importing.source import Source
from data.comparisons.ranking import Ranking
from metrics.collection_statistics import statistics
from metrics.reference_labeler import rank_by_reference
from stages.configs.comparisons import ComparisonsConfig
from stages.framework import layout
from stages.framework.stage import Stage, stage

IMPORT_REPORT = "import_report.json"  # every record that was dropped, and why
STATISTICS = "statistics.json"


def main() -> None:
    with stage("comparisons", layout.COMPARISONS) as this:
        # A folder of its own: `this.out` has the rows' files directly in it, beside what the stage adds.
        rows = this.out / "rankings"
        report = _import(this.params.comparisons, rows)
        this.write_json(IMPORT_REPORT, report.model_dump())
        too_few: Counter[str] = Counter()
        append_rankings(_ranked_responses(this, not report.files, too_few), rows)
        counts = statistics(read_collection(rows))
        if counts["by_reference_labeler"]:
            print(
                f"comparisons: {counts['by_reference_labeler']:,} rankings are by the labeler 'reference' "
                "(chrF against the reference): no person judged them."
            )
        this.write_json(STATISTICS, counts)
        del counts["rankings_by_labeler"]  # names of people are no names of metrics
        this.summarise({**counts, "import": report.counts(), "prompts_with_too_few_responses": too_few["prompts"]})


def _import(config: ComparisonsConfig, rows: Path) -> ImportReport:
    """The rankings of labeled/ and of the settings' imports; an empty report when there are none."""
    sources = [*(Source(source=str(path)) for path in sorted(layout.LABELED.glob("*.jsonl"))), *config.imports]
    if not sources:
        return ImportReport()
    report = import_rankings(sources, rows, config.strict, lambda total: Progress("comparisons", total))
    for problem in report.problems():
        print(f"comparisons: {problem}", flush=True)
    return report


def _ranked_responses(this: Stage, alone: bool, too_few: Counter[str]) -> Iterator[Ranking]:
    """The pipeline's own responses, ranked by the reference labeler; `alone` where there are no other rankings."""
    config = this.params.comparisons
    if config.reference_labeler:
        systems = [
            datasets.load_from_disk(str(layout.RESPONSES / name)) for name in this.params.pretraining.architectures
        ]
        yield from rank_responses(systems, config, too_few)
        if alone and too_few["prompts"] == len(systems[0]):
            raise InputError(
                f"none of the {len(systems[0])} prompts has {config.min_responses} distinct responses. In params.yaml raise "
                "responses.beam_responses or responses.samples, add an architecture, or lower comparisons.min_responses."
            )
    elif alone:
        raise InputError(
            f"comparisons.reference_labeler is off and comparisons.imports empty in params.yaml, and {layout.LABELED}/ holds no "
            "*.jsonl: there is nothing to rank."
        )


def rank_responses(
    systems: list[datasets.Dataset], config: ComparisonsConfig, too_few: Counter[str]
) -> Iterator[Ranking]:
    """Joins the systems' responses to each prompt, equal ones once, and ranks them by the reference labeler.

    Prompts with fewer than `min_responses` distinct ones are left out and counted; of more than `max_responses`, every
    system's first choices are kept first.
    """
    for rows in zip(*systems, strict=True):
        prompt, reference = rows[0]["prompt"], rows[0]["reference"]
        systems_of: dict[str, list[str]] = {}
        longest = max(len(row["responses"]) for row in rows)
        for position in range(longest):
            for row in rows:
                if position < len(row["responses"]) and row["responses"][position]["text"]:
                    systems_of.setdefault(row["responses"][position]["text"], []).append(
                        row["responses"][position]["system"]
                    )
        texts = list(systems_of)[: config.max_responses]
        if len(texts) < config.min_responses:
            too_few["prompts"] += 1
            continue
        yield rank_by_reference(
            prompt, texts, reference, "pipeline responses", [systems_of[t] for t in texts], config.tie_margin
        )


if __name__ == "__main__":
    main()
