"""Many prefixes in one batch: every row names its own.

Shorter prefixes are padded to the longest, and the padding is masked. A row's positions follow its own prefix. So a row gets what it would
get with its prefix alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from core.config import nearest
from core.errors import InputError
from lightning_modules.prefix_tuning.key_values import cache_shape, key_values, word_key_values
from lightning_modules.prefix_tuning.prefix import Adapter, PromptEmbedding
from lightning_modules.shared_prompt.row import Prefixes


class MixedPrefixes:
    """Trained prefixes of one base by name. Prompt embeddings become the keys and values that the base makes of their vectors."""

    def __init__(self, base: PreTrainedModel, adapters: Mapping[str, Adapter]) -> None:
        """Raises InputError on an infix, which is not before the text, and where there is no adapter."""
        infixes = [name for name, adapter in adapters.items() if adapter.infix]
        if infixes or not adapters:
            raise InputError(
                f"{', '.join(infixes) or 'no prefix'}: only prefixes go into a mixed batch, and at least one."
            )
        self.base, self.names = base, list(adapters)
        layers, heads, size = cache_shape(base)
        tables = [_table(base, adapter).view(-1, layers * 2 * heads * size) for adapter in adapters.values()]
        self.lengths = torch.tensor([len(table) for table in tables], device=base.device)
        longest = int(self.lengths.max())
        # Padded on the left, as `transformers` pads, so a prefix is next to its text.
        padded = [torch.cat([table.new_zeros(longest - len(table), table.shape[1]), table]) for table in tables]
        by_prefix = [key_values(table.to(base.device), (layers, heads, size)) for table in padded]
        self.layers = [
            (torch.stack([prefix[i][0] for prefix in by_prefix]), torch.stack([prefix[i][1] for prefix in by_prefix]))
            for i in range(layers)
        ]

    def choose(self, names: Sequence[str]) -> Tensor:
        """(rows,) which prefix each row has.

        Raises:
            InputError: a name is unknown; says which row's.
        """
        for row, name in enumerate(names, start=1):
            if name not in self.names:
                raise InputError(f"row {row}: unknown prefix '{name}' - {nearest(name, self.names)}")
        return torch.tensor([self.names.index(name) for name in names], device=self.base.device)

    def prefixes(self, names: Sequence[str]) -> Prefixes:
        """For a row of shared prompts, one name for each prompt."""
        return Prefixes(self.layers, self.lengths, self.choose(names))

    def rows(self, names: Sequence[str]) -> "RowPrefixes":
        """For the rows of a batch, padded, one name for each."""
        return RowPrefixes(self, self.choose(names))


class RowPrefixes:
    """The prefixes of a batch's rows, of which `chosen` (B,) has each row's number."""

    def __init__(self, mixed: MixedPrefixes, chosen: Tensor) -> None:
        self.mixed, self.chosen = mixed, chosen

    def of_rows(self, rows: Sequence[int]) -> Self:
        """See `BatchAdapter`."""
        return type(self)(self.mixed, self.chosen[torch.tensor(rows, dtype=torch.long, device=self.chosen.device)])

    def generation_inputs(self, base: PreTrainedModel, text: Tensor, mask: Tensor, beams: int) -> dict[str, Any]:
        """See `BatchAdapter`."""
        past, prefix_mask = self._cache(beams)
        return {
            # Placeholders for what is in the cache, which nothing reads.
            "input_ids": torch.cat([torch.ones_like(prefix_mask), text], 1),
            "attention_mask": torch.cat([prefix_mask, mask], 1),
            "past_key_values": past,
        }

    def states(self, text: Tensor) -> Tensor:
        """(B, T, d) last hidden states of `text` (B, T), padded on the right, each row after its prefix."""
        past, prefix_mask = self._cache(1)
        output = self.mixed.base.base_model(
            text,
            past_key_values=past,
            attention_mask=torch.cat([prefix_mask, torch.ones_like(text)], 1),
            position_ids=prefix_mask.sum(1, keepdim=True) + torch.arange(text.shape[1], device=text.device),
            use_cache=True,
        )
        states: Tensor = output.last_hidden_state
        return states

    def _cache(self, copies: int) -> tuple[DynamicCache, Tensor]:
        """The key/value cache of rows, each `copies` times, and (B, L) 1 where it holds a prefix."""
        longest = self.mixed.layers[0][0].shape[2]
        place = torch.arange(longest, device=self.chosen.device)
        mask = (place >= longest - self.mixed.lengths[self.chosen][:, None]).long()
        rows = self.chosen.repeat_interleave(copies)
        return DynamicCache(ddp_cache_data=[(k[rows], v[rows]) for k, v in self.mixed.layers]), mask


@torch.no_grad()
def _table(base: PreTrainedModel, adapter: Adapter) -> Tensor:
    """The adapter's keys and values in the layout of a prefix's P."""
    if isinstance(adapter, PromptEmbedding):
        return word_key_values(base, adapter.prompt_embeddings()).to(base.device)
    return adapter.prompt_embeddings().detach().to(base.device)
