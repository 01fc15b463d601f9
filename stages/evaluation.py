"""Stage `evaluation`: translates the test split with one translator. `python -m stages.evaluation ARCHITECTURE`."""

import time
from typing import Any

import torch

from core.progress import Progress
from data.arrow import read_split, references_by_source
from data.batching import padded
from data.tokenizer import BEGIN, END, decode, encode
from lightning_modules.decoding.translation import alignment, translate
from metrics.bleu_chrf import corpus_scores, tokenised_bleu
from model_io.translator import load_translator
from stages.framework import layout
from stages.framework.stage import read_json, stage

EXAMPLES = 5
HEAT_MAP_TOKENS = (6, 16)  # length of a source that makes a readable heat map


def main() -> None:
    with stage("evaluation", layout.EVALUATION, "pretraining.architectures") as this:
        name = this.item
        folder, settings = layout.TRANSLATORS / name, this.params.evaluation
        model, tokenizer, _ = load_translator(folder)
        cases = references_by_source(read_split(layout.CORPUS, "test"))
        # Sources longer than what the model was trained on are left out here as in training, and counted.
        tokens = encode(tokenizer, list(cases))
        kept = [i for i, ids in enumerate(tokens) if len(ids) <= this.params.encoding.max_length]
        too_long, kept = len(tokens) - len(kept), kept[: settings.sentences]
        sources = [list(cases)[i] for i in kept]
        references = [cases[source] for source in sources]
        ids = [tokens[i] for i in kept]

        bar, started = Progress(this.name, len(ids)), time.monotonic()
        outputs: list[list[int]] = [[]] * len(ids)
        for done, (i, hypotheses) in enumerate(translate(model, ids, settings.decoding), start=1):
            outputs[i] = hypotheses[0].tokens
            bar.update(done, f"{done / (time.monotonic() - started):.0f} sentences/s")
        seconds = time.monotonic() - started
        translations = decode(tokenizer, outputs)
        language = read_json(layout.CORPUS / layout.SUMMARY)["target_language"]
        scores, copied = (
            {**corpus_scores(texts, references), **tokenised_bleu(texts, references, language)}
            for texts in (translations, sources)
        )
        this.write_json(
            layout.EXAMPLES,
            [
                {"source": sources[i], "output": translations[i], "references": references[i]}
                for i in _spread(len(sources), EXAMPLES)
            ],
        )
        this.write_json(layout.HEAT_MAP, heat_map(model, tokenizer, ids, outputs))
        this.summarise(
            {
                **scores,
                "copy_of_source": copied,
                "sentences": len(ids),
                "too_long": too_long,
                "sentences_per_second": len(ids) / seconds,
            }
        )


def heat_map(model: Any, tokenizer: Any, sources: list[list[int]], outputs: list[list[int]]) -> dict[str, Any] | None:
    """Attention of one translation of readable length: source tokens, and the weights (T, S) of the step that predicted each
    target token, the end included. None of a model without attention."""
    low, high = HEAT_MAP_TOKENS
    readable = [i for i, (s, o) in enumerate(zip(sources, outputs, strict=True)) if low <= len(s) <= high and o]
    i = readable[0] if readable else 0
    source, target = [*sources[i], END], [BEGIN, *outputs[i], END]
    with torch.inference_mode():
        weights = alignment(model, *(padded([side]).to(model.output[0].device) for side in (source, target)))
    if weights is None:
        return None
    tokens = [[tokenizer.decode([p], skip_special_tokens=False).strip() for p in side] for side in (source, target[1:])]
    return {
        "source": tokens[0],
        "target": tokens[1],
        "weights": [[round(w, 4) for w in row] for row in weights[0].tolist()],
    }


def _spread(count: int, wanted: int) -> list[int]:
    return sorted({i * count // wanted for i in range(min(wanted, count))})


if __name__ == "__main__":
    main()
