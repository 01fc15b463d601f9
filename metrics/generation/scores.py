"""Scores of texts that describe an input, as papers on the E2E NLG Challenge give them.

They follow the challenge's script (Dušek, Novikova and Rieser 2020, github.com/tuetschek/e2e-metrics) in what it counts, without its
Java and Perl. `docs/how-to/prefix-tuning.md` has the measured differences.
"""

from collections.abc import Sequence
from typing import Any

import sacrebleu.metrics

from metrics.bleu_chrf import bleu_tokenizer, corpus_scores, reference_columns
from metrics.generation.cider import cider
from metrics.generation.meteor_exact_stem import meteor_exact_stem
from metrics.generation.nist import nist
from metrics.generation.rouge_l import rouge_l
from metrics.generation.slot_errors import slot_errors, slots
from metrics.generation.words import mteval_words, treebank_words


def generation_scores(
    texts: list[str], references: list[list[str]], sources: Sequence[str], language: str = "en"
) -> dict[str, Any]:
    """`corpus_scores` of a language, `bleu_lowercased` (0 to 100) and `e2e_scores`.

    Where every source is a meaning representation, also the slot error rate of the texts (`slot_error_rate`, with its counts), and
    that of the references (`references_slot_error_rate`), which is due to the patterns and the annotators.
    """
    uncased = sacrebleu.metrics.BLEU(lowercase=True, tokenize=bleu_tokenizer(language))
    scores = corpus_scores(texts, references, language)
    scores["bleu_lowercased"] = uncased.corpus_score(texts, reference_columns(references)).score  # type: ignore[arg-type]
    scores["bleu_lowercased_signature"] = str(uncased.get_signature())
    scores |= e2e_scores(texts, references)
    meanings = [meaning for source in sources if (meaning := slots(source))]
    if len(meanings) == len(texts):
        scores |= slot_errors(meanings, texts)
        pairs = [(meaning, text) for meaning, group in zip(meanings, references, strict=True) for text in group]
        of_references = slot_errors([meaning for meaning, _ in pairs], [text for _, text in pairs])
        scores["references_slot_error_rate"] = of_references["slot_error_rate"]
    return scores


def e2e_scores(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """NIST, METEOR (exact and stem), ROUGE-L and CIDEr of a corpus, as the script prints them.

    METEOR and ROUGE-L are 0 to 1, CIDEr 0 to 10.
    """
    if len(texts) != len(references) or not texts or not all(references):
        raise ValueError("each text needs one or more references")
    mteval = [mteval_words(text) for text in texts], [[mteval_words(r) for r in group] for group in references]
    treebank = [treebank_words(text) for text in texts], [[treebank_words(r) for r in group] for group in references]
    return {
        "nist": nist(*mteval),
        "meteor_exact_stem": meteor_exact_stem(*treebank),
        "rouge_l": rouge_l(*treebank),
        "cider": cider(*treebank),
    }
