"""Where prompts begin and texts end, over the conventions of tokenizers and generation configs that bases come with."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from core.errors import InputError
from lightning_modules.generation.generate import GenerateConfig, generate
from lightning_modules.generation.transformers_generate import transformers_generate
from lightning_modules.language_model.prompts import end_tokens, prompts
from lightning_modules.prefix_tuning.prefix import NoPrefix

WORDS = ["<pad>", "<s>", "</s>", "<|im_end|>", "<|eot_id|>", "a", "b", "c"]
BEGIN, END, TURN, EOT, A, B = 1, 2, 3, 4, 5, 6
# What the tokenizer puts around a text, and what the generation config says ends it: as in GPT-2, Llama 2, a Llama tokenizer with
# add_eos_token, Gemma with both, Qwen chats (one token), Llama 3 chats (a list), a config without, a list that repeats, one with all.
CONVENTIONS = {
    "neither": ("$A", END, [A, B], [END]),
    "begins": ("<s> $A", END, [BEGIN, A, B], [END]),
    "ends": ("$A </s>", END, [A, B], [END]),
    "begins_and_ends": ("<s> $A </s>", END, [BEGIN, A, B], [END]),
    "end_of_turn": ("$A", TURN, [A, B], [END, TURN]),
    "several": ("<s> $A", [END, TURN, EOT], [BEGIN, A, B], [END, TURN, EOT]),
    "none_in_config": ("<s> $A", None, [BEGIN, A, B], [END]),
    "repeated": ("$A </s>", [EOT, EOT], [A, B], [END, EOT]),
    "other_first": ("<s> $A </s>", [TURN, END], [BEGIN, A, B], [END, TURN]),
}


def tokenizer_of(around: str) -> PreTrainedTokenizerFast:
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    core.pre_tokenizer = WhitespaceSplit()  # type: ignore[assignment]
    core.post_processor = TemplateProcessing(single=around, special_tokens=[("<s>", BEGIN), ("</s>", END)])  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def base_that_ends_with(named: int | list[int] | None) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, eos_token_id=END
    )  # fmt: skip
    base = LlamaForCausalLM(config).eval().requires_grad_(False)
    base.generation_config.eos_token_id = named
    return base


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_prompt_begins_as_the_tokenizer_begins_and_is_not_ended(name: str) -> None:
    around, named, expected, ends = CONVENTIONS[name]
    tokenizer = tokenizer_of(around)
    assert prompts(tokenizer, "{source} b", ["a", "c"]) == [expected, [*expected[:-2], 7, B]]
    assert end_tokens(tokenizer, base_that_ends_with(named), "base") == ends


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_writing_stops_at_each_token_that_ends_a_text_as_in_transformers(name: str, beam_size: int) -> None:
    around, named, prompt, _ = CONVENTIONS[name]
    base, tokenizer = base_that_ends_with(named), tokenizer_of(around)
    ends = end_tokens(tokenizer, base, "base")
    written = generate(
        base, NoPrefix(), [prompt, [B], [A]], ends, GenerateConfig(beam_size=beam_size, max_new_tokens=12)
    )
    assert written == [
        transformers_generate(base, NoPrefix(), [p], ends, 12, num_beams=beam_size)[0] for p in (prompt, [B], [A])
    ]
    assert not {*ends} & {token for text in written for token in text}


def test_an_end_of_turn_that_only_the_generation_config_names_ends_a_text() -> None:
    base = base_that_ends_with([END, TURN])
    base.lm_head.weight.data[:] = 0
    free = generate(base, NoPrefix(), [[A]], [END], GenerateConfig(max_new_tokens=4))[0]
    base.lm_head.weight.data[TURN] = base.model(torch.tensor([[A]])).last_hidden_state[0, -1]  # the likeliest after A
    assert generate(base, NoPrefix(), [[A]], [END], GenerateConfig(max_new_tokens=4))[0][0] == TURN
    assert generate(base, NoPrefix(), [[A]], [END, TURN], GenerateConfig(max_new_tokens=4)) == [[]]
    assert len(free) == 4


def test_a_tokenizer_without_end_token_is_refused(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("$A")
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="has no end token"):
        end_tokens(tokenizer, base_that_ends_with(TURN), tmp_path)
