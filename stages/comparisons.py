"""Stage `comparisons`: responses and labelers' exports -> one comparison collection."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import datasets

from data.comparisons.collection import read_collection, statistics, write_collection
from data.comparisons.jsonl import read_jsonl
from data.comparisons.ranking import Ranking
from data.comparisons.reference_labeler import rank_by_reference
from data.errors import InputError
from stages import layout
from stages.params import ComparisonsSettings
from stages.stage import Stage, stage


def main() -> None:
    with stage("comparisons", layout.COMPARISONS) as this:
        names = list(this.params.pretraining.architectures)
        exports = sorted(layout.LABELED.glob("*.jsonl"))
        too_few: Counter[str] = Counter()
        # A folder of its own: `this.out` has the rows' files directly in it, beside what the stage adds.
        rows = this.out / "rankings"
        write_collection(_rankings(this, names, exports, too_few), rows)
        counts = statistics(read_collection(rows))
        if counts["by_reference_labeler"]:
            print(
                f"comparisons: {counts['by_reference_labeler']:,} rankings are by the labeler 'reference' "
                "(chrF against the reference): no person judged them."
            )
        this.summarise({**counts, "prompts_with_too_few_responses": too_few["prompts"]})


def _rankings(this: Stage, names: list[str], exports: list[Path], too_few: Counter[str]) -> Iterator[Ranking]:
    settings = this.params.comparisons
    for path in exports:
        yield from read_jsonl(path)
    if settings.reference_labeler:
        systems = [datasets.load_from_disk(str(layout.RESPONSES / name)) for name in names]
        yield from rank_responses(systems, settings, too_few)
        if not exports and too_few["prompts"] == len(systems[0]):
            raise InputError(
                f"none of the {len(systems[0])} prompts has {settings.min_responses} distinct responses. In params.yaml raise "
                "responses.beam_responses or responses.samples, add an architecture, or lower comparisons.min_responses."
            )
    elif not exports:
        raise InputError(
            f"comparisons.reference_labeler is off in params.yaml and {layout.LABELED}/ holds no *.jsonl: there is nothing to rank."
        )


def rank_responses(
    systems: list[datasets.Dataset], settings: ComparisonsSettings, too_few: Counter[str]
) -> Iterator[Ranking]:
    """Joins the systems' responses to each prompt, equal ones once, and ranks them by the reference labeler.

    Prompts with fewer than `min_responses` distinct ones are left out and counted; of more than `max_responses`, every
    system's first choices are kept first.
    """
    for rows in zip(*systems, strict=True):
        prompt, reference = rows[0]["prompt"], rows[0]["reference"]
        given: dict[str, list[str]] = {}
        longest = max(len(row["responses"]) for row in rows)
        for place in range(longest):
            for row in rows:
                if place < len(row["responses"]) and row["responses"][place]["text"]:
                    given.setdefault(row["responses"][place]["text"], []).append(row["responses"][place]["system"])
        texts = list(given)[: settings.max_responses]
        if len(texts) < settings.min_responses:
            too_few["prompts"] += 1
            continue
        yield rank_by_reference(
            prompt, texts, reference, "pipeline responses", [given[t] for t in texts], settings.tie_margin
        )


if __name__ == "__main__":
    main()
