"""A reward model as a folder that `transformers` reads as AutoModelForSequenceClassification with one label.

`reward.json` has what a head of `transformers` cannot hold: the bias, a temperature, and the frame, which is the text around prompt and
response. It also says whether there is a prefix, and has the hashes of the other files.
The folder's tokenizer makes the same ids from a pair of texts, `tokenizer(prompt, response)`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
from data.comparisons.encoding import Frame, encode_rankings
from data.comparisons.encoding_config import FIELDS
from data.templates import checked_template
from data.tokenizer import load_tokenizer
from lightning_modules.language_model.prompts import end_token
from lightning_modules.prefix_tuning.base_model import max_text_length
from lightning_modules.prefix_tuning.prefix import Adapter, Prefix
from lightning_modules.reward_model.module import score
from lightning_modules.shared_prompt.reading import check_shared_prompts
from model_io.files import AGAIN, WEIGHTS, check_same, check_seal, load_weights, read_config, write_sealed_config
from model_io.language_model import load_transformers_model, start_from_transformers_model
from model_io.prefix import PREFIX, adapter_of

REWARD_CONFIG = "reward.json"
SCORING_TOKENS = 8192  # of a micro-batch where rewards are only read


class RewardConfig(BaseModel):
    """What `reward.json` says beside the hashes."""

    bias: FiniteFloat
    temperature: FiniteFloat | None = None
    frame: Frame
    prefix: bool


@dataclass(frozen=True)
class SavedRewardModel:
    """A trained reward model, ready to score."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    frame: Frame
    bias: float
    temperature: float | None  # fitted on the validation rankings
    adapter: Adapter | None

    @property
    def max_length(self) -> int:
        """Tokens of prompt and response together that the model reads."""
        return max_text_length(self.model, len(self.adapter.prompt_embeddings()) if self.adapter else 0)

    def rewards_of_rankings(self, rows: datasets.Dataset) -> tuple[list[np.ndarray], np.ndarray]:
        """Rewards of the rankings that the model can read, and the indices of their rows."""
        rankings, indices, *_ = encode_rankings(rows, self.tokenizer, self.frame, max_length=self.max_length)
        values = score(self.model, [(r.prompt, r.responses) for r in rankings], SCORING_TOKENS, self.adapter)
        return [v + self.bias for v in values], indices

    def rewards(self, records: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        """Rewards (K,) of the `responses` of each record, which has a `prompt` and, where the frame needs one, a `reference`.

        Raises:
            InputError: a record lacks the reference, or is longer than the model reads.
        """
        try:
            prompts = self.frame.prompts(self.tokenizer, records)
        except ValueError as error:
            raise InputError(f"{error}.") from None
        flat = iter(self.frame.responses(self.tokenizer, [text for record in records for text in record["responses"]]))
        texts = [(p, [next(flat) for _ in record["responses"]]) for p, record in zip(prompts, records, strict=True)]
        limit, length = self.max_length, max(len(p) + max(map(len, responses)) for p, responses in texts)
        if length > limit:
            raise InputError(f"a prompt with its response has {length:,} tokens; this model reads at most {limit:,}.")
        return [values + self.bias for values in score(self.model, texts, SCORING_TOKENS, self.adapter)]


def new_reward_model(backbone: Path | str, template: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Frame]:
    """A language model's backbone under a scalar head with random weights, its tokenizer, and the frame of its texts."""
    model, tokenizer = load_transformers_model(
        AutoModelForSequenceClassification, backbone, new=("score.weight",), num_labels=1
    )
    frame = _frame(tokenizer, template, end_token(tokenizer, backbone))
    # Where padding is the text's last token, `transformers` would read the reward one token too early.
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in frame.after:
        spare = {tokenizer.unk_token, tokenizer.bos_token} - {None, tokenizer.eos_token}
        tokenizer.add_special_tokens({"pad_token": min(spare) if spare else "<|pad|>"})
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.pad_token_id = tokenizer.pad_token_id
    _join_pairs(tokenizer, frame)
    return model, tokenizer, frame


def _frame(tokenizer: PreTrainedTokenizerBase, template: str, end: int) -> Frame:
    """What the tokenizer puts around a text is around the prompt. Its end token comes after the response."""
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
        save_file({"P": adapter.prompt_embeddings().detach().cpu().contiguous()}, folder / PREFIX)
    config = RewardConfig(bias=bias, temperature=temperature, frame=frame, prefix=isinstance(adapter, Prefix))
    write_sealed_config(folder / REWARD_CONFIG, {"format": FORMAT, **config.model_dump()})


def read_reward_config(folder: Path) -> RewardConfig:
    """`reward.json`, after a check of the files beside it. In old folders the file of a prefix says whether there is one.

    Raises:
        InputError: it is missing or damaged, or a file is missing or differs from the one saved with it.
    """
    path = folder / REWARD_CONFIG
    values = read_config(path, "a reward model or a prefix, e.g. artifacts/reward_models/grouped")
    format_of(values, str(path))  # both formats have the same names
    named = {key: value for key, value in values.items() if key != "format"}
    config = validated(RewardConfig, {"prefix": (folder / PREFIX).is_file(), **named}, str(path))
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


def load_reward_model(folder: Path) -> SavedRewardModel:
    """Raises InputError when a file is missing or damaged, differs from the one saved, or the model cannot share prompts."""
    config = read_reward_config(folder)
    model, _ = load_transformers_model(AutoModelForSequenceClassification, folder)
    adapter: Adapter | None = None
    if config.prefix:
        table = load_weights(folder / PREFIX, ("P",))["P"]
        adapter = adapter_of({"kind": "prefix"}, table, model, folder / PREFIX).to(model.device).eval()
    check_shared_prompts(model)
    tokenizer = load_tokenizer(folder)
    return SavedRewardModel(model, tokenizer, config.frame, config.bias, config.temperature, adapter)


def start_from_reward_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, frame: Frame, virtual_tokens: int, folder: Path
) -> SavedRewardModel:
    """Gives a new reward model the weights, head included, of the one in `folder`. Returns that one: its prefix and bias are not in a model.

    Raises:
        InputError: there is none, or it is another model: of another config, tokenizer, frame or number of virtual tokens.
    """
    earlier = load_reward_model(folder)
    start_from_transformers_model(model, tokenizer.backend_tokenizer, earlier.model, earlier.tokenizer, folder)
    there = len(earlier.adapter.prompt_embeddings()) if earlier.adapter else 0
    check_same(
        folder,
        {**asdict(earlier.frame), "number of virtual tokens": there},
        {**asdict(frame), "number of virtual tokens": virtual_tokens},
    )
    return earlier
