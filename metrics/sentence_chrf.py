"""chrF of single sentences: what the reference labeler ranks by."""

from functools import lru_cache

import sacrebleu.metrics


@lru_cache
def _chrf() -> sacrebleu.metrics.CHRF:
    return sacrebleu.metrics.CHRF()


@lru_cache(maxsize=100_000)
def sentence_chrf(text: str, reference: str) -> float:
    """chrF2 (Popović 2015) of one sentence, 0 to 100."""
    return float(_chrf().sentence_score(text, [reference]).score)
