"""Prefix-tuning (Li & Liang 2021): a frozen language model learns a task through trained activations before its input.

`Prefix` is the paper's method: key and value vectors before the input at every layer, from an MLP while training. Its ablation
`PromptEmbedding` (7.2, "embedding-only") trains vectors before the input embeddings and nothing above. Either may be an infix between
input and target (7.3).

Differences from the paper:

- The base is any causal model with a key/value cache and a linear output layer, also with grouped queries. It is read without its dropout.
- Batches have a budget of tokens, not 5 examples. An input is read once for all its targets (`shared_prompt/examples.py`).
- Initial values that are activations of real words (7.4) go through the MLP as well. Training starts from what a prompt of these words does.
- An infix of keys and values comes before the input's last token, which predicts the target's first. Words for it are read alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lightning_modules.prefix_tuning.base_model import input_embeddings, max_text_length
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.key_values import cache_shape, key_values, prefix_cache, word_key_values
from lightning_modules.prefix_tuning.projection import PrefixEncoder
from lightning_modules.shared_prompt.examples import ExampleBatch, ExampleLayout
from lightning_modules.shared_prompt.reading import shared_prompt_states
from lightning_modules.shared_prompt.row import Prefixes


class BatchAdapter(Protocol):
    """What the prompts of a batch are read after: one adapter, or one for each row (`mixed_prefixes.py`)."""

    def generation_inputs(self, base: PreTrainedModel, text: Tensor, mask: Tensor, beams: int) -> dict[str, Any]:
        """What `transformers.generate` is given for prompts (B, T), padded on the left, with mask 0 there."""

    def of_rows(self, rows: Sequence[int]) -> Self:
        """The same for some rows of the batch."""


class Adapter(nn.Module, ABC):
    """What is trained beside a frozen base."""

    infix = False

    @abstractmethod
    def prompt_embeddings(self) -> Tensor:
        """P (L, width) of the L virtual tokens: all that is kept after training."""

    @abstractmethod
    def states(self, base: PreTrainedModel, text: Tensor) -> Tensor:
        """(B, T, d) last hidden states of `text` (B, T) under the adapted base. `text` is read after P, also by an infix."""

    @abstractmethod
    def row_states(self, base: PreTrainedModel, batch: ExampleBatch) -> Tensor:
        """(N, d) last hidden states of a row of examples, which has this adapter's layout."""

    @abstractmethod
    def generation_inputs(self, base: PreTrainedModel, text: Tensor, mask: Tensor, beams: int) -> dict[str, Any]:
        """See `BatchAdapter`."""

    def of_rows(self, rows: Sequence[int]) -> Self:
        """Itself: every row has the same."""
        return self

    def layout(self, share_references: bool = True) -> ExampleLayout:
        """How examples are arranged for it; with `share_references` an input is read once for all its targets."""
        return ExampleLayout(infix=self.infix, share_references=share_references)


class Prefix(PrefixEncoder, Adapter):
    """Keys and values of L virtual tokens at every layer. P is (L, layers * 2 * key/value heads * head size)."""

    def __init__(self, base: PreTrainedModel, config: PrefixConfig, initial: Tensor | None = None) -> None:
        self.shape = layers, heads, size = cache_shape(base)
        super().__init__(layers * 2 * heads * size, config, initial)
        self.infix, self.dropout = config.position == "infix", nn.Dropout(config.dropout)

    def prefixes(self) -> Prefixes:
        """P as a row of shared prompts reads it, after dropout."""
        table = self.dropout(self.prompt_embeddings())
        lengths = torch.tensor([len(table)], device=table.device)
        layers = key_values(table, self.shape)
        return Prefixes([(k[None], v[None]) for k, v in layers], lengths, infix=self.infix)

    def states(self, base: PreTrainedModel, text: Tensor) -> Tensor:
        """(B, T, d) last hidden states of `text` after the prefix."""
        past = prefix_cache(self.dropout(self.prompt_embeddings()), self.shape, len(text))
        hidden: Tensor = base.base_model(text, past_key_values=past, use_cache=True).last_hidden_state
        return hidden

    def row_states(self, base: PreTrainedModel, batch: ExampleBatch) -> Tensor:
        return shared_prompt_states(base, batch.row, self.prefixes())

    def generation_inputs(self, base: PreTrainedModel, text: Tensor, mask: Tensor, beams: int) -> dict[str, Any]:
        table, rows = self.prompt_embeddings(), len(text)
        # `generate` takes the first positions of its input for those in the cache: these are placeholders, which nothing reads.
        placeholders = mask.new_ones(rows, len(table))
        before = text.shape[1] - 1 if self.infix else 0  # positions before P
        past = prefix_cache(table, self.shape, rows * beams)
        if before:
            read: Any = base.base_model(
                text[:, :before],
                attention_mask=mask[:, :before],
                position_ids=(mask[:, :before].cumsum(1) - 1).clamp(min=0),
                use_cache=True,
            ).past_key_values
            for trained, layer in zip(cast(Any, past).layers, read.layers, strict=True):
                trained.keys = torch.cat([layer.keys.repeat_interleave(beams, 0), trained.keys], 2)
                trained.values = torch.cat([layer.values.repeat_interleave(beams, 0), trained.values], 2)
        return {
            "input_ids": torch.cat([text[:, :before], placeholders, text[:, before:]], 1),
            "attention_mask": torch.cat([mask[:, :before], placeholders, mask[:, before:]], 1),
            "past_key_values": past,
        }


class PromptEmbedding(Adapter):
    """L vectors among the input embeddings. The activations above them are the frozen model's own."""

    def __init__(self, base: PreTrainedModel, config: PrefixConfig, initial: Tensor | None = None) -> None:
        super().__init__()
        width = input_embeddings(base).shape[1]
        self.infix, self.dropout = config.position == "infix", nn.Dropout(config.dropout)
        self.P = nn.Parameter(
            torch.randn(config.num_virtual_tokens, width) * 0.02 if initial is None else initial.clone()
        )

    def prompt_embeddings(self) -> Tensor:
        """P, (L, d)."""
        return self.P

    def layout(self, share_references: bool = True) -> ExampleLayout:
        return ExampleLayout(virtual_tokens=len(self.P), infix=self.infix, share_references=share_references)

    def states(self, base: PreTrainedModel, text: Tensor) -> Tensor:
        """(B, T, d) last hidden states of `text` after the prompt."""
        vectors = self.dropout(self.P).expand(len(text), -1, -1)
        embedded = torch.cat([vectors, base.get_input_embeddings()(text)], 1)
        hidden: Tensor = base.base_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        return hidden[:, len(self.P) :]

    def row_states(self, base: PreTrainedModel, batch: ExampleBatch) -> Tensor:
        embedded = base.get_input_embeddings()(batch.row.tokens)
        vectors = self.dropout(self.P).repeat(len(batch.row.prompt_lengths), 1).to(embedded.dtype)
        embedded = embedded.index_copy(1, batch.virtual, vectors[None])
        return shared_prompt_states(base, batch.row, embedded=embedded)

    def generation_inputs(self, base: PreTrainedModel, text: Tensor, mask: Tensor, beams: int) -> dict[str, Any]:
        parts = [self.P.expand(len(text), -1, -1), base.get_input_embeddings()(text)]
        masks = [mask.new_ones(len(text), len(self.P)), mask]
        order = slice(None, None, -1 if self.infix else 1)  # padding on the left keeps input and infix together
        return {"inputs_embeds": torch.cat(parts[order], 1), "attention_mask": torch.cat(masks[order], 1)}


class NoPrefix(Adapter):
    """The frozen model alone: what the others are compared with."""

    def prompt_embeddings(self) -> Tensor:
        """Nothing."""
        return torch.zeros(0)

    def states(self, base: PreTrainedModel, text: Tensor) -> Tensor:
        """(B, T, d) last hidden states of `text`."""
        hidden: Tensor = base.base_model(text, use_cache=False).last_hidden_state
        return hidden

    def row_states(self, base: PreTrainedModel, batch: ExampleBatch) -> Tensor:
        return shared_prompt_states(base, batch.row)

    def generation_inputs(self, base: PreTrainedModel, text: Tensor, mask: Tensor, beams: int) -> dict[str, Any]:
        return {"input_ids": text, "attention_mask": mask}


def build_adapter(kind: str, base: PreTrainedModel, config: PrefixConfig, init_tokens: list[int] | None) -> Adapter:
    """The adapter of a kind ("prefix", "prompt_tuning" or "none"), which starts from `init_tokens` where there are any.

    Raises:
        InputError: the virtual tokens leave no room for text.
    """
    words = None
    if init_tokens:
        max_text_length(base, config.num_virtual_tokens)  # before the base reads so many
        words = torch.tensor([init_tokens[i % len(init_tokens)] for i in range(config.num_virtual_tokens)])
    match kind:
        case "prefix":
            return Prefix(base, config, None if words is None else word_key_values(base, words))
        case "prompt_tuning":
            # By the layer, not from its table: some bases scale it.
            initial = None if words is None else base.get_input_embeddings()(words.to(base.device)).detach().cpu()
            return PromptEmbedding(base, config, initial)
    return NoPrefix()
