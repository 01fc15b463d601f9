"""Stage `reference_comparisons`: the translators' responses, ranked by chrF against the reference, beside imports -> a collection.

`python -m stages.reference_comparisons NAME`.
"""

from collections import Counter
from collections.abc import Iterator

import datasets

from core.errors import InputError
from data.comparisons.ranking import Ranking
from metrics.reference_labeler import rank_by_reference
from stages.comparisons import write_collection
from stages.configs.comparisons import ReferenceComparisonsConfig
from stages.framework import layout
from stages.framework.params import required
from stages.framework.stage import Stage, stage


def main() -> None:
    with stage("reference_comparisons", layout.COMPARISONS, "reference_comparisons") as this:
        config = this.params.reference_comparisons[this.item]
        systems, too_few = _responses(this), Counter[str]()

        def ranked(alone: bool) -> Iterator[Ranking]:
            yield from rank_responses(systems, config, too_few)
            if alone and too_few["prompts"] == len(systems[0]):
                raise InputError(
                    f"none of the {len(systems[0])} prompts has {config.min_responses} distinct responses. In params.yaml raise "
                    f"beam_responses or samples of responses.common, add a translator, or lower min_responses of {this.item}."
                )

        write_collection(this, config, ranked, lambda: {"prompts_with_too_few_responses": too_few["prompts"]})


def _responses(this: Stage) -> list[datasets.Dataset]:
    """The responses of each translator that `responses.translators` names.

    Raises:
        InputError: those of one are missing: a collection is never made of a part of them.
    """
    names = list(required(this.params.responses).translators)
    if missing := [name for name in names if not (layout.RESPONSES / name).is_dir()]:
        raise InputError(
            f"{layout.RESPONSES / missing[0]}: no such folder, but responses.translators in params.yaml names {', '.join(missing)}. "
            f"Make it first: dvc repro responses@{missing[0]}, or dvc repro without --single-item."
        )
    return [datasets.load_from_disk(str(layout.RESPONSES / name)) for name in names]


def rank_responses(
    systems: list[datasets.Dataset], config: ReferenceComparisonsConfig, too_few: Counter[str]
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
