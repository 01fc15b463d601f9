"""Many prefixes in one batch: every row names its own.

Prefixes are filled up to the longest; what is filled up is masked, and a row's positions follow its own prefix, so a row gets what it would get
with its prefix alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from data.batching import padded
from data.errors import InputError
from data.settings import nearest
from lightning_modules import packing
from lightning_modules.prefix_tuning import Adapter, EmbeddingPrompt, NoPrefix, activations, cache_shape, key_values


class MixedPrefixes:
    """Trained prefixes of one base by name. Embedding-only ones become the keys and values that the base makes of their vectors."""

    def __init__(self, base: PreTrainedModel, adapters: Mapping[str, Adapter]) -> None:
        """Raises InputError on an infix: it does not stand where the others do."""
        infixes = [name for name, adapter in adapters.items() if adapter.infix]
        if infixes or not adapters:
            raise InputError(
                f"{', '.join(infixes) or 'no prefix'}: only prefixes go into a mixed batch, and at least one."
            )
        self.base, self.names = base, list(adapters)
        layers, heads, size = cache_shape(base)
        flats = [_flat(base, adapter).view(-1, layers * 2 * heads * size) for adapter in adapters.values()]
        self.lengths = torch.tensor([len(flat) for flat in flats], device=base.device)
        longest = int(self.lengths.max())
        # On the left, next to the text: as `transformers` pads.
        filled = [torch.cat([flat.new_zeros(longest - len(flat), flat.shape[1]), flat]) for flat in flats]
        both = [key_values(flat.to(base.device), (layers, heads, size)) for flat in filled]
        self.layers = [
            (torch.stack([own[i][0] for own in both]), torch.stack([own[i][1] for own in both])) for i in range(layers)
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

    def prefixes(self, names: Sequence[str]) -> packing.Prefixes:
        """For packed trees, one name for each."""
        return packing.Prefixes(self.layers, self.lengths, self.choose(names))

    def cache(self, names: Sequence[str], copies: int = 1) -> tuple[DynamicCache, Tensor]:
        """The key/value cache of rows, each `copies` times, and (rows, L) 1 where it holds a prefix."""
        chosen = self.choose(names)
        longest = self.layers[0][0].shape[2]
        place = torch.arange(longest, device=chosen.device)
        mask = (place >= longest - self.lengths[chosen][:, None]).long()
        rows = chosen.repeat_interleave(copies)
        return DynamicCache(ddp_cache_data=[(k[rows], v[rows]) for k, v in self.layers]), mask

    def states(self, text: Tensor, names: Sequence[str]) -> Tensor:
        """(B, T, d) last hidden states of `text` (B, T), padded on the right, each row after its prefix."""
        past, mask = self.cache(names)
        positions = self.lengths[self.choose(names)][:, None] + torch.arange(text.shape[1], device=text.device)
        found = self.base.base_model(
            text,
            past_key_values=past,
            attention_mask=torch.cat([mask, torch.ones_like(text)], 1),
            position_ids=positions,
            use_cache=True,
        )
        states: Tensor = found.last_hidden_state
        return states

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[list[int]], names: Sequence[str], end: int, max_new: int, **options: Any
    ) -> list[list[int]]:
        """Continuations of prompts of piece ids (one batch), as `prefix_tuning.generate` gives."""
        text = padded([list(p) for p in prompts], left=True).to(self.base.device)
        lengths = torch.tensor([[len(p)] for p in prompts], device=text.device)
        past, before = self.cache(names, options.get("num_beams", 1))
        mask = (torch.arange(text.shape[1], device=text.device) >= text.shape[1] - lengths).long()
        out = cast(Any, self.base).generate(
            input_ids=torch.cat([torch.ones_like(before), text], 1),  # stand-ins for what is in the cache, never read
            attention_mask=torch.cat([before, mask], 1),
            past_key_values=past,
            max_new_tokens=max_new,
            eos_token_id=end,
            pad_token_id=end,
            do_sample=options.pop("do_sample", False),
            **options,
        )
        rows = out[:, before.shape[1] + text.shape[1] :].tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]


@torch.no_grad()
def _flat(base: PreTrainedModel, adapter: Adapter) -> Tensor:
    if isinstance(adapter, EmbeddingPrompt):
        return activations(base, adapter.flat()).to(base.device)
    return (
        adapter.flat().detach().to(base.device) if not isinstance(adapter, NoPrefix) else torch.zeros(0).to(base.device)
    )
