"""Scores of generated text against references."""

from typing import Any

import sacrebleu.metrics


def corpus_scores(texts: list[str], references: list[list[str]]) -> dict[str, Any]:
    """Cased sacreBLEU and chrF with their signatures; each text has one or more references."""
    most = max(map(len, references))
    columns = [[r[i] if i < len(r) else None for r in references] for i in range(most)]
    found: dict[str, Any] = {}
    for key, metric in (("bleu", sacrebleu.metrics.BLEU()), ("chrf", sacrebleu.metrics.CHRF())):
        found[key] = metric.corpus_score(texts, columns).score  # type: ignore[arg-type]
        found[f"{key}_signature"] = str(metric.get_signature())
    return found
