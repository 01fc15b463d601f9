"""Stage `evaluation`: translates the test split with one translator. `python -m stages.evaluation ARCHITECTURE`."""

import time
from typing import Any

import torch

from core.progress import Progress, track
from data.arrow import read_split, references_by_source
from data.batching import padded
from data.overlong import apply_max_length
from data.tokenizer import BEGIN, END, decode, encode
from lightning_modules.decoding.translation import alignment, translate
from metrics.bleu_chrf import corpus_scores, tokenised_bleu
from model_io.translator import load_translator
from stages.framework import layout
from stages.framework.params import required
from stages.framework.stage import read_json, stage

EXAMPLES = 5
HEAT_MAP_TOKENS = (6, 16)  # length of a source that makes a readable heat map


def main() -> None:
    with stage("evaluation", layout.EVALUATION, "pretraining.architectures") as this:
        config, encoding = required(this.params.evaluation), required(this.params.encoding)
        model, tokenizer, _ = load_translator(layout.TRANSLATORS / this.item)
        references_of = references_by_source(read_split(layout.CORPUS, "test"))
        all_sources = list(references_of)
        encoded = encode(tokenizer, all_sources)
        # What is longer than what the model was trained on is treated as in training.
        chosen, ids = apply_max_length(encoded, encoding.max_length, encoding.overlong)
        dropped = len(all_sources) - len(chosen)
        chosen, ids = chosen[: config.sentences], ids[: config.sentences]
        sources = [all_sources[i] for i in chosen]
        references = [references_of[source] for source in sources]

        bar, started = Progress(this.name, len(ids)), time.monotonic()
        outputs: list[list[int]] = [[]] * len(ids)
        for done, (i, hypotheses) in enumerate(translate(model, ids, config.decoding), start=1):
            outputs[i] = hypotheses[0].tokens
            bar.update(done, f"{done / (time.monotonic() - started):.0f} sentences/s")
        seconds = time.monotonic() - started
        translations = decode(tokenizer, outputs)
        language = read_json(layout.CORPUS / layout.SUMMARY)["target_language"]
        scores, scores_of_copies = (
            {**corpus_scores(texts, references, language), **tokenised_bleu(texts, references, language)}
            for texts in track((translations, sources), f"{this.name} scores")
        )
        examples = [
            {"source": sources[i], "output": translations[i], "references": references[i]}
            for i in _spread(len(sources), EXAMPLES)
        ]
        this.write_json(layout.EXAMPLES, examples)
        this.write_json(layout.HEAT_MAP, heat_map(model, tokenizer, ids, outputs))
        this.summarise(
            {
                **scores,
                "copy_of_source": scores_of_copies,
                "sentences": len(ids),
                "dropped": dropped,  # of all sources of the split
                "truncated": sum(
                    len(encoded[i]) > encoding.max_length for i in chosen
                ),  # of those that were translated
                "sentences_per_second": len(ids) / seconds,
            }
        )


def heat_map(model: Any, tokenizer: Any, sources: list[list[int]], outputs: list[list[int]]) -> dict[str, Any] | None:
    """Attention of one translation of readable length.

    Returns the source and target tokens, each with the end token, and the weights (T, S) of the step that predicted each target
    token. None of a model without attention.
    """
    low, high = HEAT_MAP_TOKENS
    lengths = [len(source) if output else 0 for source, output in zip(sources, outputs, strict=True)]
    i = next((i for i, length in enumerate(lengths) if low <= length <= high), 0)
    source, target = [*sources[i], END], [BEGIN, *outputs[i], END]
    with torch.inference_mode():
        weights = alignment(model, *(padded([side]).to(model.output[0].device) for side in (source, target)))
    if weights is None:
        return None
    source_tokens, target_tokens = (
        [tokenizer.decode([token], skip_special_tokens=False).strip() for token in side]
        for side in (source, target[1:])
    )
    return {
        "source": source_tokens,
        "target": target_tokens,
        "weights": [[round(w, 4) for w in row] for row in weights[0].tolist()],
    }


def _spread(count: int, number: int) -> list[int]:
    """At most `number` of the indices up to `count`, at equal distances."""
    return sorted({i * count // number for i in range(min(number, count))})


if __name__ == "__main__":
    main()
