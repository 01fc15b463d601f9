"""Stage `responses`: one translator's answers to held-out prompts. `python -m stages.responses ARCHITECTURE`."""

from typing import Any

import datasets

from core.progress import Progress
from data.arrow import read_split, references_by_source
from data.tokenizer import decode, encode
from lightning_modules.decoding.translation import DecodingConfig, translate
from model_io.translator import load_translator
from stages.framework import layout
from stages.framework.stage import stage


def main() -> None:
    with stage("responses", layout.RESPONSES, "pretraining.architectures") as this:
        name = this.item
        folder, settings, seed = layout.TRANSLATORS / name, this.params.responses, this.params.seed
        model, tokenizer, _ = load_translator(folder)
        cases = references_by_source(read_split(layout.CORPUS, "prompts"))
        tokens = encode(tokenizer, list(cases))
        kept = [i for i, ids in enumerate(tokens) if len(ids) <= this.params.encoding.max_length][: settings.prompts]
        prompts, ids = [list(cases)[i] for i in kept], [tokens[i] for i in kept]
        limits: dict[str, Any] = {"extra_tokens": settings.extra_tokens}
        ways = {
            "beam": DecodingConfig(
                beam_size=max(settings.beam_size, settings.beam_responses), n_best=settings.beam_responses, **limits
            )
        }
        if settings.samples:
            ways["sample"] = DecodingConfig(
                method="sample", n_best=settings.samples, temperature=settings.temperature, seed=seed, **limits
            )

        responses: list[list[dict[str, str]]] = [[] for _ in prompts]
        bar, done = Progress(this.name, len(ways) * len(prompts)), 0
        for way, decoding in ways.items():
            for i, hypotheses in translate(model, ids, decoding):
                texts = decode(tokenizer, [h.tokens for h in hypotheses])
                responses[i] += [{"system": f"{name}/{way}{n}", "text": text} for n, text in enumerate(texts, start=1)]
                done += 1
                bar.update(done)
        rows = {"prompt": prompts, "reference": [cases[p][0] for p in prompts], "responses": responses}
        datasets.Dataset.from_dict(rows).save_to_disk(this.out)
        this.summarise({"prompts": len(prompts), "responses": sum(map(len, responses))})


if __name__ == "__main__":
    main()
