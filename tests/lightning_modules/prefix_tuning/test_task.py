"""Examples of the adaptation task as token ids."""

from transformers import PreTrainedTokenizerFast

from data.tokenizer import END
from data.tokenizer_training import TokenizerConfig, train_tokenizer
from lightning_modules.prefix_tuning.task import _encoded


def test_texts_that_spell_the_end_are_text() -> None:
    learned = train_tokenizer(["a b say"], TokenizerConfig(vocab_size=300))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learned, eos_token="</s>")
    plain, spelt = _encoded([("a b", ["b", "a"]), ("a </s> b", ["b </s> a"])], tokenizer, "say {source}:")
    ordinary = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (" b", " a")]
    assert plain == ("a b", tokenizer("say a b:")["input_ids"], [[*target, END] for target in ordinary])
    source, prompt, (target,) = spelt
    assert source == "a </s> b"
    assert END not in prompt
    assert target.index(END) == len(target) - 1
    assert tokenizer.decode(target[:-1]).strip() == "b </s> a"
