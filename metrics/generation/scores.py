"""Scores of texts that describe an input, as papers on the E2E challenge give them."""

from collections.abc import Sequence
from typing import Any

import sacrebleu.metrics

from metrics.bleu_chrf import corpus_scores, reference_columns
from metrics.generation.nist_meteor_rouge_cider import scores
from metrics.generation.slot_errors import slot_errors, slots


def generation_scores(texts: list[str], references: list[list[str]], sources: Sequence[str]) -> dict[str, Any]:
    """`corpus_scores` and the challenge's five: `bleu_lowercased` (times 100), `nist`, `meteor`, `rouge_l` and `cider`.

    Where every source is a meaning representation, also the slot error rate of the texts (`slot_error_rate`, with its counts) and of
    the references (`references_slot_error_rate`), which says how much of it is the patterns' and the annotators'.
    """
    uncased = sacrebleu.metrics.BLEU(lowercase=True)
    found = corpus_scores(texts, references)
    found["bleu_lowercased"] = uncased.corpus_score(texts, reference_columns(references)).score  # type: ignore[arg-type]
    found["bleu_lowercased_signature"] = str(uncased.get_signature())
    found |= scores(texts, references)
    meanings = [meaning for source in sources if (meaning := slots(source))]
    if len(meanings) == len(texts):
        found |= slot_errors(meanings, texts)
        each = [(m, r) for m, group in zip(meanings, references, strict=True) for r in group]
        found["references_slot_error_rate"] = slot_errors([m for m, _ in each], [r for _, r in each])["slot_error_rate"]
    return found
