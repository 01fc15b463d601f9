"""BLEU and chrF of a whole test split against its references."""

from importlib.metadata import version
from typing import Any

import sacrebleu.metrics
from sacremoses import MosesPunctNormalizer, MosesTokenizer


def corpus_scores(texts: list[str], references: list[list[str]]) -> dict[str, Any]:
    """Cased sacreBLEU and chrF with their signatures; each text has one or more references."""
    columns = reference_columns(references)
    scores: dict[str, Any] = {}
    for key, metric in (("bleu", sacrebleu.metrics.BLEU()), ("chrf", sacrebleu.metrics.CHRF())):
        scores[key] = metric.corpus_score(texts, columns).score  # type: ignore[arg-type]
        scores[f"{key}_signature"] = str(metric.get_signature())
    return scores


def tokenised_bleu(texts: list[str], references: list[list[str]], language: str) -> dict[str, Any]:
    """BLEU as Multi30k's results are published: of text lower-cased, with normal punctuation, tokenised by Moses' rules.

    The corpus' own `lc.norm.tok` files were made by Moses' lowercase, normalize-punctuation and tokenizer scripts in this
    order, and scored with multi-bleu: 4-gram BLEU of these tokens, without smoothing. `sacremoses` is those
    scripts in Python; here HTML escapes are left out, which changes the spelling of tokens but not which are equal.
    Higher or lower than cased sacreBLEU by points: never compare one with the other.

    Args:
        language: of the text, as Moses names it: where it splits apostrophes, and which abbreviations keep their point.
    """
    normalizer, tokenizer = MosesPunctNormalizer(lang=language), MosesTokenizer(lang=language)

    def tokenised(text: str) -> str:
        return str(tokenizer.tokenize(normalizer.normalize(text.lower()), return_str=True, escape=False))

    metric = sacrebleu.metrics.BLEU(tokenize="none", smooth_method="none", force=True)
    columns = reference_columns([[tokenised(r) for r in several] for several in references])
    bleu = metric.corpus_score([tokenised(t) for t in texts], columns)  # type: ignore[arg-type]
    signature = str(metric.get_signature()).replace("case:mixed", "case:lc")
    moses = f"norm-moses-{language}-sacremoses-{version('sacremoses')}"
    return {
        "tokenised_bleu": bleu.score,
        "tokenised_bleu_signature": signature.replace("tok:none", f"tok:{moses}"),
    }


def reference_columns(references: list[list[str]]) -> list[list[str | None]]:
    """References as sacreBLEU takes them: first of all, second of all, ...; None where there is none."""
    columns = max(map(len, references))
    return [[r[i] if i < len(r) else None for r in references] for i in range(columns)]
