"""Stage `prefix_tuning`: one variant of adapting the base model. `python -m stages.prefix_tuning VARIANT`."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from transformers import PreTrainedModel

from core.errors import InputError
from core.processes import this_process
from core.progress import Progress, say, track
from data.arrow import read_split
from lightning_modules.generation.generate import GenerateConfig, generate
from lightning_modules.language_model.prompts import end_tokens
from lightning_modules.prefix_tuning.base_model import check_output_layer, max_text_length
from lightning_modules.prefix_tuning.fine_tuning import FineTuningModule
from lightning_modules.prefix_tuning.gradient_checkpointing import checkpoint_layers
from lightning_modules.prefix_tuning.module import PrefixTuningModule, padded_loader, target_loss
from lightning_modules.prefix_tuning.prefix import Adapter, build_adapter
from lightning_modules.prefix_tuning.task import Input, Sample, read_inputs
from lightning_modules.shared_prompt.examples import shared_prompt_loader
from lightning_modules.shared_prompt.reading import check_shared_prompts, shared_prompt_attention
from metrics.generation.scores import generation_scores
from model_io.files import DEVICE, count_parameters, weight_files
from model_io.language_model import load_language_model, start_from_language_model
from model_io.prefix import ADAPTERS, PREFIX, save_prefix, start_from_prefix
from stages.configs.prefix_tuning import VariantConfig
from stages.framework import layout
from stages.framework.params import required
from stages.framework.stage import Stage, read_json, stage
from stages.framework.warm_start import existing_init_folder
from stages.training.fit import Loader, fit

GENERATED_AT_ONCE = 20
EXAMPLES_SHOWN = 3  # in the report
HELD_OUT_BATCH_TOKENS = 1024  # tokens read at once where no gradient is kept


def main() -> None:
    with stage("prefix_tuning", layout.PREFIXES, "prefix_tuning.variants", in_processes=True) as this:
        variant = required(this.params.prefix_tuning).variants[this.item]
        seed = this.params.seed if variant.seed is None else variant.seed
        pl.seed_everything(seed, verbose=False)
        base, tokenizer = load_language_model(_base(this))
        check_output_layer(base)
        adapter = _adapter(this, base, tokenizer, variant)
        longest = max_text_length(base, len(adapter.prompt_embeddings()))
        if variant.gradient_checkpointing:
            checkpoint_layers(base)
        samples = _samples(this, tokenizer, variant, seed, longest)
        shares_prompts = _can_share_prompts(this, base, adapter, variant)
        make_loader = partial(_loader, adapter, shares_prompts, variant, longest)
        train_inputs = samples["train"].inputs
        train = make_loader(train_inputs, variant.training.batch_tokens, seed=seed, process=this_process())
        validation, test = (
            make_loader(samples[split].inputs, HELD_OUT_BATCH_TOKENS, shuffle=False) for split in ("validation", "test")
        )
        generation_inputs = _generation_inputs(this, samples["test"].inputs, longest)
        module = _module(base, adapter, variant, len(train))
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        learned: dict[str, Any] = {"seconds": 0.0}
        if trained:
            with shared_prompt_attention(base) if shares_prompts else nullcontext():
                learned = fit(this, module, train, validation, variant.training)
        for trainable in (module, base, adapter):  # a trainer gives them back on the CPU
            cast(torch.nn.Module, trainable).to(DEVICE).eval()
        examples = sum(len(i.targets) for i in train_inputs)
        tokens = sum(len(t) for i in train_inputs for t in i.targets)
        this.summarise(
            {
                "examples": examples,
                "dropped": {split: sample.dropped for split, sample in samples.items()},
                "truncated": {split: sample.truncated for split, sample in samples.items()},
                "trained_parameters": trained,
                **_save(this, base, tokenizer, adapter, variant, trained),
                **learned,
                "examples_per_second": learned.get("tokens_per_second", 0.0) * examples / tokens,
                **_test_loss(this, base, adapter, test),
                **_test_outputs(this, base, adapter, tokenizer, generation_inputs),
            }
        )


def _base(this: Stage) -> Path:
    return layout.BASE_MODELS / required(this.params.prefix_tuning).base_model


def _samples(this: Stage, tokenizer: Any, variant: VariantConfig, seed: int, longest: int) -> dict[str, Sample]:
    """What the variant trains on, and the inputs it is validated and tested on: these are the same whatever its seed."""
    task = required(this.params.prefix_tuning).task

    def read(split: str, examples: int | None, **options: Any) -> Sample:
        return read_inputs(
            this.name,
            read_split(layout.CORPUS, split),
            layout.CORPUS / split,
            examples,
            tokenizer=tokenizer,
            template=task.template,
            max_length=min(task.max_length, longest),
            overlong=task.overlong,
            **options,
        )

    count = task.examples if variant.examples is None else variant.examples
    return {
        "train": read("train", count, seed=seed, by=variant.sampled),
        "validation": read("validation", task.validation_examples, seed=this.params.seed),
        "test": read("test", None, inputs=task.test_examples, seed=this.params.seed),
    }


def _module(
    base: PreTrainedModel, adapter: Adapter, variant: VariantConfig, steps_per_epoch: int
) -> PrefixTuningModule | FineTuningModule:
    """The LightningModule of the variant's kind: fine-tuning of the whole base or its top layers, or a prefix."""
    if variant.kind in ("full", "top_layers"):
        top_layers = variant.num_top_layers if variant.kind == "top_layers" else None
        return FineTuningModule(base, variant.training, steps_per_epoch, top_layers)
    return PrefixTuningModule(base, adapter, variant.training, steps_per_epoch)


def _adapter(this: Stage, base: PreTrainedModel, tokenizer: Any, variant: VariantConfig) -> Adapter:
    """What is trained beside the base. It, or a base that is fine-tuned, has the weights of an earlier one where the variant names one."""
    folder = existing_init_folder(this)
    if folder and variant.kind in ADAPTERS:
        template = required(this.params.prefix_tuning).task.template
        return start_from_prefix(variant.kind, base, _base(this), variant, template, folder)
    if folder:
        start_from_language_model(base, tokenizer.backend_tokenizer, folder)
    return build_adapter(variant.kind, base, variant, _initial_tokens(this, tokenizer, variant))


def _initial_tokens(this: Stage, tokenizer: Any, variant: VariantConfig) -> list[int] | None:
    """Tokens of `prompt_tuning_init_text`; a line says if the prefix has more or fewer virtual tokens."""
    if not variant.prompt_tuning_init_text:
        return None
    tokens: list[int] = tokenizer(variant.prompt_tuning_init_text)["input_ids"]
    if len(tokens) != variant.num_virtual_tokens:
        change = "the rest is left out" if len(tokens) > variant.num_virtual_tokens else "it is repeated"
        say(
            f"{this.name}: prompt_tuning_init_text has {len(tokens)} tokens, the prefix {variant.num_virtual_tokens}: {change}"
        )
    return tokens


def _can_share_prompts(this: Stage, base: PreTrainedModel, adapter: Adapter, variant: VariantConfig) -> bool:
    """Whether the base model can read an input once for all its references; a line says why not.

    Raises:
        InputError: it cannot, and the variant needs it.
    """
    try:
        check_shared_prompts(base)
    except InputError as error:
        if adapter.infix or variant.gradient_checkpointing:
            raise
        say(f"{this.name}: {error} Training reads padded rows.")
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
    """Batches of shared prompts; padded rows where the base model cannot share them."""
    if not shares_prompts:
        return padded_loader([(i.prompt, t) for i in inputs for t in i.targets], batch_tokens, **options)
    examples = [(i.prompt, i.targets) for i in inputs]
    example_layout = adapter.layout(variant.share_references)
    return shared_prompt_loader(examples, example_layout, batch_tokens, max_length=longest, **options)


def _save(
    this: Stage, base: PreTrainedModel, tokenizer: Any, adapter: Adapter, variant: VariantConfig, trained: int
) -> dict[str, Any]:
    """Writes what the variant trained; returns its size. A fine-tuned base model is a model folder of its own."""
    kept_parameters = adapter.prompt_embeddings().numel()
    if variant.kind not in ("full", "top_layers"):
        save_prefix(this.out, variant.kind, adapter, _base(this), required(this.params.prefix_tuning).task.template)
        size = (this.out / PREFIX).stat().st_size if kept_parameters else 0
    else:
        kept_parameters, size = trained, 4 * count_parameters(base)
        if variant.keep_weights:
            base.save_pretrained(this.out)
            tokenizer.save_pretrained(this.out)
            size = sum(file.stat().st_size for file in weight_files(this.out))
    return {
        "kept_parameters": kept_parameters,
        "share_of_base": kept_parameters / count_parameters(base),
        "file_bytes": size,
    }


def _generation_inputs(this: Stage, inputs: list[Input], longest: int) -> list[Input]:
    """The test inputs that leave room for `max_new_tokens`; a line says how many do not.

    Raises:
        InputError: none does.
    """
    max_new_tokens = required(this.params.prefix_tuning).task.max_new_tokens
    fitting = [i for i in inputs if len(i.prompt) + max_new_tokens <= longest]
    if not fitting:
        raise InputError(
            f"no test input leaves room for {max_new_tokens} tokens (prefix_tuning.task.max_new_tokens): "
            f"with its prefix the base model reads {longest:,}."
        )
    if len(fitting) < len(inputs):
        say(
            f"{this.name}: no output is generated for {len(inputs) - len(fitting)} of {len(inputs)} test inputs: with "
            f"{max_new_tokens} tokens more they are longer than {longest:,} tokens, which is what the base model reads"
        )
    return fitting


@torch.inference_mode()
def _test_loss(this: Stage, base: PreTrainedModel, adapter: Adapter, batches: Loader) -> dict[str, Any]:
    """Mean loss of a target token of the test split, in nats, and the number of these tokens."""
    loss, tokens = 0.0, 0
    for batch in track(batches, f"{this.name} test loss", len(batches)):
        moved = batch.to(base.device) if hasattr(batch, "to") else {k: v.to(base.device) for k, v in batch.items()}
        batch_loss, count = target_loss(base, adapter, moved)
        loss, tokens = loss + float(batch_loss), tokens + count
    return {"test_loss": loss / tokens, "test_target_tokens": tokens}


@torch.inference_mode()
def _test_outputs(
    this: Stage, base: PreTrainedModel, adapter: Adapter, tokenizer: Any, inputs: list[Input]
) -> dict[str, Any]:
    """Generates an output for each input; scores it against all references of the input.

    `outputs_cut` are those that ended because they had `max_new_tokens`.
    """
    task = required(this.params.prefix_tuning).task
    config = GenerateConfig(
        beam_size=task.beam_size, length_penalty=task.length_penalty, max_new_tokens=task.max_new_tokens
    )
    ends = end_tokens(tokenizer, base, tokenizer.name_or_path)
    bar, outputs_cut = Progress(f"{this.name} test outputs", len(inputs)), 0
    bar.update(0)
    texts: dict[int, str] = {}
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i].prompt))  # a batch has prompts of like length
    for start in range(0, len(order), GENERATED_AT_ONCE):
        chosen = order[start : start + GENERATED_AT_ONCE]
        prompts = [inputs[i].prompt for i in chosen]
        ids = generate(base, adapter, prompts, ends, config, batch=GENERATED_AT_ONCE)
        outputs_cut += sum(len(tokens) == task.max_new_tokens for tokens in ids)  # the end token is not among them
        decoded = tokenizer.batch_decode(ids, skip_special_tokens=True)
        texts |= {i: " ".join(text.split()) for i, text in zip(chosen, decoded, strict=True)}
        bar.update(len(texts))
    outputs = [texts[i] for i in range(len(inputs))]
    examples = [
        {"source": i.source, "output": output, "references": i.references}
        for i, output in zip(inputs[:EXAMPLES_SHOWN], outputs, strict=False)
    ]
    this.write_json(layout.EXAMPLES, examples)
    language = read_json(layout.CORPUS / layout.SUMMARY)["target_language"]
    return {
        "test_inputs": len(inputs),
        "outputs_cut": outputs_cut,
        **generation_scores(outputs, [i.references for i in inputs], [i.source for i in inputs], language),
    }


if __name__ == "__main__":
    main()
