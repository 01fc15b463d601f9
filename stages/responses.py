"""Stage `responses`: one translator's answers to held-out prompts. `python -m stages.responses ARCHITECTURE`."""

from typing import Any

import datasets

from core.progress import Progress
from data.arrow import read_split, references_by_source
from data.overlong import apply_max_length
from data.tokenizer import decode, encode
from lightning_modules.decoding.translation import DecodingConfig, translate
from model_io.translator import load_translator
from stages.configs.translators import TranslatorResponsesConfig
from stages.framework import layout
from stages.framework.params import required
from stages.framework.stage import stage


def main() -> None:
    with stage("responses", layout.RESPONSES, "responses.translators") as this:
        name = this.item
        config, encoding = required(this.params.responses).translators[name], required(this.params.encoding)
        model, tokenizer, _ = load_translator(layout.TRANSLATORS / name)
        references = references_by_source(read_split(layout.CORPUS, "prompts"))
        all_prompts = list(references)
        encoded = encode(tokenizer, all_prompts)
        chosen, ids = apply_max_length(encoded, encoding.max_length, encoding.overlong)
        dropped = len(all_prompts) - len(chosen)
        chosen, ids = chosen[: config.prompts], ids[: config.prompts]
        prompts = [all_prompts[i] for i in chosen]

        responses: list[list[dict[str, str]]] = [[] for _ in prompts]
        methods = decoding_methods(config, this.params.seed)
        bar, done = Progress(this.name, len(methods) * len(prompts)), 0
        for method, decoding in methods.items():
            for i, hypotheses in translate(model, ids, decoding):
                texts = decode(tokenizer, [hypothesis.tokens for hypothesis in hypotheses])
                responses[i] += [
                    {"system": f"{name}/{method}{number}", "text": text} for number, text in enumerate(texts, start=1)
                ]
                done += 1
                bar.update(done)
        rows = {"prompt": prompts, "reference": [references[p][0] for p in prompts], "responses": responses}
        datasets.Dataset.from_dict(rows).save_to_disk(this.out)
        this.summarise(
            {
                "prompts": len(prompts),
                "responses": sum(map(len, responses)),
                "dropped": dropped,  # of all prompts of the split
                "truncated": sum(len(encoded[i]) > encoding.max_length for i in chosen),  # of those that were answered
            }
        )


def decoding_methods(config: TranslatorResponsesConfig, seed: int) -> dict[str, DecodingConfig]:
    """How responses are decoded, by the method's name in `system`: the best of one beam search, and samples unless there are none."""
    limit: dict[str, Any] = {"extra_tokens": config.extra_tokens}
    beam_size = max(config.beam_size, config.beam_responses)
    methods = {"beam": DecodingConfig(beam_size=beam_size, n_best=config.beam_responses, **limit)}
    if config.samples:
        methods["sample"] = DecodingConfig(
            method="sample", n_best=config.samples, temperature=config.temperature, seed=seed, **limit
        )
    return methods


if __name__ == "__main__":
    main()
