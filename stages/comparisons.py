"""Stage `comparisons`: labelers' exports and other imports -> a comparison collection. `python -m stages.comparisons NAME`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.errors import InputError
from core.progress import Progress
from data.comparisons.collection import read_collection
from data.comparisons.importing.appending import append_rankings
from data.comparisons.importing.rankings import import_rankings
from data.comparisons.importing.report import ImportReport
from data.comparisons.importing.source import Source
from data.comparisons.ranking import Ranking
from metrics.collection_statistics import statistics
from stages.configs.comparisons import ComparisonsConfig
from stages.framework import layout
from stages.framework.stage import Stage, stage

IMPORT_REPORT = "import_report.json"  # every record that was dropped, and why
STATISTICS = "statistics.json"


def main() -> None:
    with stage("comparisons", layout.COMPARISONS, "comparisons") as this:
        config = this.params.comparisons[this.item]
        write_collection(this, config, nothing)


def nothing(alone: bool) -> Iterator[Ranking]:
    """No rankings beside the imported ones.

    Raises:
        InputError: there are no imported ones (`alone`).
    """
    if alone:
        raise InputError(
            f"no rankings: this collection has no imports in params.yaml, and {layout.LABELED}/ holds no *.jsonl."
        )
    yield from ()


def write_collection(
    this: Stage,
    config: ComparisonsConfig,
    more: Callable[[bool], Iterator[Ranking]],
    facts: Callable[[], dict[str, Any]] = dict,
) -> None:
    """Writes the imports of `config` and `more` rankings as the stage's collection; `more` is told if there are no others.

    `facts` gives further entries of the summary, when all rankings are written.
    """
    # A folder of its own: `this.out` has the rows' files directly in it, beside what the stage adds.
    rows = this.out / "rankings"
    report = _import(this.name, config, rows)
    this.write_json(IMPORT_REPORT, report.model_dump())
    append_rankings(more(not report.files), rows)
    counts = statistics(read_collection(rows))
    if counts["by_reference_labeler"]:
        print(
            f"{this.name}: {counts['by_reference_labeler']:,} rankings are by the labeler 'reference' "
            "(chrF against the reference): no person judged them."
        )
    this.write_json(STATISTICS, counts)
    del counts["rankings_by_labeler"]  # names of people are no names of metrics
    this.summarise({**counts, "import": report.counts(), **facts()})


def _import(name: str, config: ComparisonsConfig, rows: Path) -> ImportReport:
    """The rankings of labeled/ and of the settings' imports; an empty report when there are none."""
    sources = [*(Source(source=str(path)) for path in sorted(layout.LABELED.glob("*.jsonl"))), *config.imports]
    if not sources:
        return ImportReport()
    report = import_rankings(sources, rows, config.strict, lambda total: Progress(name, total))
    for problem in report.problems():
        print(f"{name}: {problem}", flush=True)
    return report


if __name__ == "__main__":
    main()
