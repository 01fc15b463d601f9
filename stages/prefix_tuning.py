"""Stage `prefix_tuning`: one variant of adapting the base model. `python -m stages.prefix_tuning VARIANT`."""

from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import pytorch_lightning as pl
import torch
from transformers import PreTrainedModel

from core.errors import InputError
from core.processes import share
from core.progress import Progress
from data.arrow import read_split
from lightning_modules.language_model.generation import GenerateConfig, generate
from lightning_modules.prefix_tuning.fine_tuning import FineTuningModule
from lightning_modules.prefix_tuning.gradient_checkpointing import checkpoint_layers
from lightning_modules.prefix_tuning.module import PrefixTuningModule, padded_loader, target_loss
from lightning_modules.prefix_tuning.prefix import Adapter, build, check_output_layer, longest_text
from lightning_modules.prefix_tuning.task import Input, read_inputs
from lightning_modules.shared_prompt.examples import shared_prompt_loader
from lightning_modules.shared_prompt.reading import check_shared_prompts, shared_prompt_attention
from metrics.generation.scores import generation_scores
from model_io.files import DEVICE, count_parameters, weight_files
from model_io.language_model import load_causal_model
from model_io.prefix import PREFIX, save_prefix
from stages.framework import layout
from stages.framework.params import VariantConfig
from stages.framework.stage import Stage, stage
from stages.training.fit import Loader, fit

GENERATED_AT_ONCE = 20
SHOWN = 3
HELD_OUT_BUDGET = 1024  # tokens read at once where no gradient is kept


def main() -> None:
    with stage("prefix_tuning", layout.PREFIXES, "prefix_tuning.variants", in_processes=True) as this:
        task = this.params.prefix_tuning
        variant = task.variants[this.item]
        seed = this.params.seed if variant.seed is None else variant.seed
        pl.seed_everything(seed, verbose=False)
        base, tokenizer = load_causal_model(layout.BASE_MODEL)
        check_output_layer(base)
        adapter = build(variant.kind, base, variant, _initial(this, tokenizer, variant))
        longest = longest_text(base, adapter)
        if variant.gradient_checkpointing:
            checkpoint_layers(base)

        def read(split: str, examples: int | None, **sample: Any) -> list[Input]:
            rows, where = read_split(layout.CORPUS, split), layout.CORPUS / split
            fits = min(task.max_length, longest)
            return read_inputs(
                this.name, rows, where, examples, tokenizer=tokenizer, template=task.template, longest=fits, **sample
            )

        count = task.examples if variant.examples is None else variant.examples
        train = read("train", count, seed=seed, by=variant.sampled)
        # The same for all variants, whatever seed they have.
        validation = read("validation", task.validation_examples, seed=this.params.seed)
        tested = read("test", None, inputs=task.test_examples, seed=this.params.seed)
        budget = variant.training.batch_tokens
        shares_prompts = _can_share_prompts(this, base, adapter, variant)
        make_loader = partial(_loader, adapter, shares_prompts, variant, longest)
        loader = make_loader(train, budget, seed=seed, share=share())
        held_out, test = (make_loader(part, HELD_OUT_BUDGET, shuffle=False) for part in (validation, tested))
        fitting = _fitting(this, tested, longest)
        module: PrefixTuningModule | FineTuningModule
        if variant.kind in ("full", "top_layers"):
            top = variant.num_top_layers if variant.kind == "top_layers" else None
            module = FineTuningModule(base, variant.training, len(loader), top)
        else:
            module = PrefixTuningModule(base, adapter, variant.training, len(loader))
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        learned: dict[str, Any] = {"seconds": 0.0}
        if trained:
            with shared_prompt_attention(base) if shares_prompts else nullcontext():
                learned = fit(this, module, loader, held_out, variant.training)
        for trainable in (module, base, adapter):  # a trainer gives them back on the CPU
            cast(torch.nn.Module, trainable).to(DEVICE).eval()
        examples = sum(len(i.targets) for i in train)
        tokens = sum(len(t) for i in train for t in i.targets)
        this.summarise(
            {
                "examples": examples,
                "trained_parameters": trained,
                **_saved(this, base, tokenizer, adapter, variant, trained),
                **learned,
                "examples_per_second": learned.get("tokens_per_second", 0.0) * examples / tokens,
                **_test(this, base, adapter, tokenizer, test, fitting),
            }
        )


def _initial(this: Stage, tokenizer: Any, variant: VariantConfig) -> list[int] | None:
    """Tokens of the words to start from; says where they do not fit the length."""
    if not variant.prompt_tuning_init_text:
        return None
    tokens: list[int] = tokenizer(variant.prompt_tuning_init_text)["input_ids"]
    if len(tokens) != variant.num_virtual_tokens:
        done = "the rest is left out" if len(tokens) > variant.num_virtual_tokens else "it is repeated"
        print(
            f"{this.name}: prompt_tuning_init_text has {len(tokens)} tokens, the prefix {variant.num_virtual_tokens}: {done}",
            flush=True,
        )
    return tokens


def _can_share_prompts(this: Stage, base: PreTrainedModel, adapter: Adapter, variant: VariantConfig) -> bool:
    """Whether the base reads an input once for all its references; says why not. Raises InputError where the variant needs it."""
    try:
        check_shared_prompts(base)
    except InputError as error:
        if adapter.infix or variant.gradient_checkpointing:
            raise
        print(f"{this.name}: {error} Training reads padded rows.", flush=True)
        return False
    return True


def _loader(
    adapter: Adapter,
    shares_prompts: bool,
    variant: VariantConfig,
    longest: int,
    inputs: list[Input],
    batch_tokens: int,
    **options: Any,
) -> Loader:
    """Rows of shared prompts; padded rows where the base cannot share them."""
    if not shares_prompts:
        return padded_loader([(i.prompt, t) for i in inputs for t in i.targets], batch_tokens, **options)
    examples = [(i.prompt, i.targets) for i in inputs]
    arranged = adapter.layout(variant.share_references)
    return shared_prompt_loader(examples, arranged, batch_tokens, max_length=longest, **options)


def _saved(
    this: Stage, base: PreTrainedModel, tokenizer: Any, adapter: Adapter, variant: VariantConfig, trained: int
) -> dict[str, Any]:
    """Writes what is kept of the variant; returns how much it is. A fine-tuned base is a model folder of its own."""
    kept = adapter.flat().numel()
    if variant.kind not in ("full", "top_layers"):
        save_prefix(this.out, variant.kind, adapter, layout.BASE_MODEL, this.params.prefix_tuning.template)
        size = (this.out / PREFIX).stat().st_size if kept else 0
    else:
        kept, size = trained, 4 * count_parameters(base)
        if variant.keep_weights:
            base.save_pretrained(this.out)
            tokenizer.save_pretrained(this.out)
            size = sum(file.stat().st_size for file in weight_files(this.out))
    return {"kept_parameters": kept, "share_of_base": kept / count_parameters(base), "file_bytes": size}


def _fitting(this: Stage, tested: list[Input], longest: int) -> list[Input]:
    """The test inputs that leave room for what is to be written; says how many do not. Raises InputError where none does."""
    most = this.params.prefix_tuning.max_new_tokens
    fitting = [i for i in tested if len(i.prompt) + most <= longest]
    if not fitting:
        raise InputError(
            f"no test input leaves room for {most} tokens (prefix_tuning.max_new_tokens): with its prefix the base reads {longest:,}."
        )
    if len(fitting) < len(tested):
        print(
            f"{this.name}: {len(tested) - len(fitting)} of {len(tested)} test inputs are not written: with "
            f"{most} tokens more they have above {longest:,}, which is what the base reads",
            flush=True,
        )
    return fitting


@torch.inference_mode()
def _test(
    this: Stage, base: PreTrainedModel, adapter: Adapter, tokenizer: Any, test: Loader, fitting: list[Input]
) -> dict[str, Any]:
    """Loss on the targets, and scores of what the model writes against all references of an input."""
    loss, tokens = 0.0, 0
    for batch in test:
        moved = batch.to(base.device) if hasattr(batch, "to") else {k: v.to(base.device) for k, v in batch.items()}
        batch_loss, count = target_loss(base, adapter, moved)
        loss, tokens = loss + float(batch_loss), tokens + count
    task = this.params.prefix_tuning
    most, cut = task.max_new_tokens, 0
    settings = GenerateConfig(beam_size=task.beam_size, length_penalty=task.length_penalty, max_new_tokens=most)
    bar = Progress(f"{this.name} writes", len(fitting))
    written: dict[int, str] = {}
    order = sorted(range(len(fitting)), key=lambda i: len(fitting[i].prompt))  # of like length together
    for start in range(0, len(order), GENERATED_AT_ONCE):
        chosen = order[start : start + GENERATED_AT_ONCE]
        ids = generate(
            base,
            adapter,
            [fitting[i].prompt for i in chosen],
            tokenizer.eos_token_id,
            settings,
            batch=GENERATED_AT_ONCE,
        )
        cut += sum(len(tokens) == most for tokens in ids)  # the end token is not among them
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        written |= {i: " ".join(text.split()) for i, text in zip(chosen, texts, strict=True)}
        bar.update(len(written))
    outputs = [written[i] for i in range(len(fitting))]
    this.write_json(
        layout.EXAMPLES,
        [
            {"source": i.source, "output": w, "references": i.references}
            for i, w in zip(fitting[:SHOWN], outputs, strict=False)
        ],
    )
    return {
        "test_inputs": len(fitting),
        "outputs_cut": cut,
        "test_loss": loss / tokens,
        "test_target_tokens": tokens,
        **generation_scores(outputs, [i.references for i in fitting], [i.source for i in fitting]),
    }


if __name__ == "__main__":
    main()
