"""Stage `prefix_tuning`: one variant of adapting the frozen base model. `python -m stages.prefix_tuning VARIANT`."""

from typing import Any

import pytorch_lightning as pl
import torch

from data.arrow import read_split
from data.errors import InputError
from lightning_modules.prefix_tuning import NoPrefix, PrefixTuning, build, example_loader, generate
from stages import layout
from stages.fitting import fit
from stages.language_model_folder import load_causal_model
from stages.model_files import count_parameters
from stages.prefix_folder import save_prefix
from stages.progress import Progress
from stages.scoring import corpus_scores
from stages.stage import Stage, stage

GENERATED_AT_ONCE = 20
SHOWN = 3


def main() -> None:
    with stage("prefix_tuning", layout.PREFIXES, "prefix_tuning.variants") as this:
        task, seed = this.params.prefix_tuning, this.params.seed
        variant = task.variants[this.item]
        pl.seed_everything(seed, verbose=False)
        base, tokenizer = load_causal_model(layout.BASE_MODEL)
        train, validation, tested = (
            _examples(this, tokenizer, split, count)
            for split, count in (
                ("train", task.examples),
                ("validation", task.validation_examples),
                ("test", task.test_examples),
            )
        )
        initial = tokenizer(variant.initial_text)["input_ids"] if variant.initial_text else None
        adapter = build(variant.kind, base, variant, initial)
        loader = example_loader([e[:2] for e in train], variant.training.tokens_per_batch, seed=seed)
        held_out = example_loader([e[:2] for e in validation], 1024, shuffle=False)
        module = PrefixTuning(base, adapter, variant.training, len(loader))
        learned: dict[str, Any] = {"seconds": 0.0}
        if not isinstance(adapter, NoPrefix):
            learned = fit(this, module, loader, held_out, variant.training)
        module.to(base.device).eval()  # a trainer gives it back on the CPU
        save_prefix(this.out, variant.kind, adapter, layout.BASE_MODEL, task.template)
        measured = _test(this, module, tokenizer, tested)
        kept = adapter.flat().numel()
        share = kept / count_parameters(base)
        this.summarise(
            {
                "kept_parameters": kept,
                "share_of_base": share,
                **learned,
                **measured,
            }
        )


def _examples(this: Stage, tokenizer: Any, split: str, count: int) -> list[tuple[list[int], list[int], str, str]]:
    """The first `count` pairs of a split, in a seeded order, that fit; (prompt ids, target ids, source, target)."""
    task = this.params.prefix_tuning
    rows = read_split(layout.CORPUS, split).shuffle(seed=this.params.seed, keep_in_memory=True)
    found, too_long = [], 0
    for row in rows:
        prompt = tokenizer(task.template.format_map({"source": row["source"]}))["input_ids"]
        target = [*tokenizer(" " + row["target"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        if len(prompt) + len(target) > task.max_pieces:
            too_long += 1
            continue
        found.append((prompt, target, row["source"], row["target"]))
        if len(found) == count:
            break
    if not found:
        raise InputError(
            f"prefix_tuning: no pair of '{split}' has at most {task.max_pieces} pieces. Raise prefix_tuning.max_pieces in params.yaml."
        )
    print(
        f"{this.name}: {split}: {len(found)} examples; {too_long} pairs passed over, longer than {task.max_pieces} pieces",
        flush=True,
    )
    return found


@torch.inference_mode()
def _test(
    this: Stage, module: PrefixTuning, tokenizer: Any, tested: list[tuple[list[int], list[int], str, str]]
) -> dict[str, Any]:
    """Loss on the targets, and BLEU and chrF of what the model writes."""
    loss, tokens = 0.0, 0
    for batch in example_loader([e[:2] for e in tested], 1024, shuffle=False):
        batch_loss, count = module.loss({side: rows.to(module.device) for side, rows in batch.items()})
        loss, tokens = loss + float(batch_loss), tokens + count
    bar = Progress(f"{this.name} writes", len(tested))
    written: list[str] = []
    for start in range(0, len(tested), GENERATED_AT_ONCE):
        prompts = [e[0] for e in tested[start : start + GENERATED_AT_ONCE]]
        ids = generate(
            module.base[0], module.adapter, prompts, tokenizer.eos_token_id, this.params.prefix_tuning.generated_pieces
        )
        written += [" ".join(text.split()) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
        bar.update(len(written))
    this.write_json(
        layout.EXAMPLES,
        [{"source": e[2], "output": w, "references": [e[3]]} for e, w in zip(tested[:SHOWN], written, strict=False)],
    )
    return {
        "test_loss": loss / tokens,
        "test_target_pieces": tokens,
        **corpus_scores(written, [[e[3]] for e in tested]),
    }


if __name__ == "__main__":
    main()
