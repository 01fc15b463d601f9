"""A reward model as a folder that `transformers` reads as AutoModelForSequenceClassification with one label.

Beside it `reward.json` has the bias (transformers' heads have none), a temperature, and the frame: what stands around prompt and response.
It also says whether there is a prefix, and has the hashes of the files beside it.
The folder's tokenizer makes the same ids from a pair of texts, `tokenizer(prompt, response)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from pydantic import BaseModel, FiniteFloat
from safetensors.torch import save_file
from tokenizers import Tokenizer, processors
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from core.config import validated
from core.errors import InputError
from core.format_1 import FORMAT, format_of
from data.comparisons.encoding import FIELDS, Frame, encode_rankings
from data.templates import checked_template
from data.tokenizer import load_tokenizer
from lightning_modules.language_model.prompts import end_token
from lightning_modules.prefix_tuning.prefix import Adapter, NoPrefix, Prefix, longest_text
from lightning_modules.reward_model.module import score
from lightning_modules.shared_prompt.reading import check_shared_prompts
from model_io.files import AGAIN, WEIGHTS, check_seal, read_config, weights, write_sealed_config
from model_io.language_model import from_pretrained
from model_io.prefix import PREFIX
from model_io.prefix import adapter as prefix_adapter

REWARD = "reward.json"
BUDGET = 8192  # tokens scored at once


class RewardConfig(BaseModel):
    """What `reward.json` says beside the hashes."""

    bias: FiniteFloat
    temperature: FiniteFloat | None = None
    frame: Frame
    prefix: bool


@dataclass(frozen=True)
class SavedReward:
    """A trained reward model, ready to score."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    frame: Frame
    bias: float
    temperature: float | None  # fitted on the validation rankings
    adapter: Adapter | None

    @property
    def longest(self) -> int:
        """Tokens of prompt and response together that the model reads."""
        return longest_text(self.model, self.adapter or NoPrefix())

    def of_rankings(self, rows: datasets.Dataset) -> tuple[list[np.ndarray], np.ndarray]:
        """Rewards of the rankings that the model can read, and the indices of their rows."""
        read, kept = encode_rankings(rows, self.tokenizer, self.frame, max_length=self.longest)
        values = score(self.model, [(g.prompt, g.responses) for g in read], BUDGET, self.adapter)
        return [v + self.bias for v in values], kept

    def rewards(self, cases: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        """Rewards (K,) of the `responses` of each case with a `prompt` and, where the frame needs one, a `reference`.

        Raises:
            InputError: a case lacks the reference.
        """
        try:
            prompts = self.frame.prompts(self.tokenizer, cases)
        except ValueError as error:
            raise InputError(f"{error}.") from None
        flat = iter(self.frame.responses(self.tokenizer, [text for case in cases for text in case["responses"]]))
        read = [(p, [next(flat) for _ in case["responses"]]) for p, case in zip(prompts, cases, strict=True)]
        longest, found = self.longest, max(len(p) + max(map(len, r)) for p, r in read)
        if found > longest:
            raise InputError(f"a prompt with its response has {found:,} tokens; this model reads at most {longest:,}.")
        return [values + self.bias for values in score(self.model, read, BUDGET, self.adapter)]


def new_reward_model(body: Path | str, template: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Frame]:
    """A language model's body under a scalar head with fresh weights, its tokenizer, and the frame of its texts."""
    model, tokenizer = from_pretrained(AutoModelForSequenceClassification, body, new=("score.weight",), num_labels=1)
    frame = _frame(tokenizer, template, end_token(tokenizer, body))
    # Where padding is spelt like the text's last token, `transformers` would read the reward one token too early.
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in frame.after:
        spare = {tokenizer.unk_token, tokenizer.bos_token} - {None, tokenizer.eos_token}
        tokenizer.add_special_tokens({"pad_token": min(spare) if spare else "<|pad|>"})
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.pad_token_id = tokenizer.pad_token_id
    _join_pairs(tokenizer, frame)
    return model, tokenizer, frame


def _frame(tokenizer: PreTrainedTokenizerBase, template: str, end: int) -> Frame:
    """What the tokenizer itself puts around a text stands around the prompt; its end token after the response."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    ids = tokenizer("a")["input_ids"]
    start = next(i for i in range(len(ids)) if ids[i : i + len(bare)] == bare)
    between = [i for i in ids[start + len(bare) :] if i != end]
    return Frame(template, ids[:start], between, [end])


def _join_pairs(tokenizer: PreTrainedTokenizerBase, frame: Frame) -> None:
    names = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in (*frame.before, *frame.between, *frame.after)}
    before, between, after = ([names[i] for i in part] for part in (frame.before, frame.between, frame.after))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *between],
        pair=[*before, "$A", *between, "$B:0", *after],
        special_tokens=[(name, i) for i, name in names.items()],
    )
    tokenizer.model_input_names = ["input_ids", "attention_mask"]


def save_reward_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    frame: Frame,
    adapter: Adapter,
    *,
    bias: float,
    temperature: float | None,
) -> None:
    """Writes model, tokenizer, frame, bias and temperature, and the prefix where there is one."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if isinstance(adapter, Prefix):
        save_file({"P": adapter.flat().detach().cpu().contiguous()}, folder / PREFIX)
    config = RewardConfig(bias=bias, temperature=temperature, frame=frame, prefix=isinstance(adapter, Prefix))
    write_sealed_config(folder / REWARD, {"format": FORMAT, **config.model_dump()})


def read_reward_config(folder: Path) -> RewardConfig:
    """`reward.json`, after a check of the files beside it. One written before it said so has a prefix where there is the file.

    Raises:
        InputError: it is missing or damaged, or a file is missing or not the one that was saved with it.
    """
    path = folder / REWARD
    values = read_config(path, "a reward model or a prefix, e.g. artifacts/reward_models/paper")
    format_of(values, str(path))  # both formats have the same names
    known = {key: value for key, value in values.items() if key != "format"}
    config = validated(RewardConfig, {"prefix": (folder / PREFIX).is_file(), **known}, str(path))
    try:
        checked_template(config.frame.template, FIELDS)
    except ValueError as error:
        raise InputError(f"{path}: frame.template: {error}.") from None
    if not config.frame.after:
        raise InputError(f"{path}: frame.after is empty: the reward is read at its last token. {AGAIN}")
    check_seal(path, values)
    if not any(folder.glob("model*.safetensors")):  # several where they are large
        raise InputError(f"{folder / WEIGHTS}: missing. {AGAIN}")
    return config


def load_reward_model(folder: Path) -> SavedReward:
    """Raises InputError when a file is missing, damaged, or not the one that was saved."""
    config = read_reward_config(folder)
    model, _ = from_pretrained(AutoModelForSequenceClassification, folder)
    adapter: Adapter | None = None
    if config.prefix:
        flat = weights(folder / PREFIX, ("P",))["P"]
        adapter = prefix_adapter({"kind": "prefix"}, flat, model, folder / PREFIX).to(model.device).eval()
    check_shared_prompts(model)
    tokenizer = load_tokenizer(folder)
    return SavedReward(model, tokenizer, config.frame, config.bias, config.temperature, adapter)
