"""Prefix-tuning (Li & Liang 2021): a frozen language model learns a task through trained activations before its input.

`Prefix` is the paper's method: key and value vectors before the input at every layer, from an MLP while training. Its
ablation `PromptEmbedding` (7.2, "embedding-only") trains vectors before the input embeddings and nothing above. Either may stand as an
infix between input and target (7.3).

Differences from the paper: the base is any causal model with a key/value cache and a linear output layer, grouped-query ones included,
and is read without its dropout; batches have a budget of tokens, not 5 examples, and read an input once for all its targets
(`packed_examples.py`). Initial values may be the activations of real words (7.4), and then reach the keys and values through the MLP as
well, so that training starts where prompting with these words stands. An infix of keys and values stands before the input's last token,
which predicts the target's first; words for it are read alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

from core.errors import InputError, NotFiniteError
from data.batching import padded
from lightning_modules.prefix_tuning.projection import PrefixConfig, PrefixProjection
from lightning_modules.shared_prompt.examples import ExampleBatch, ExampleLayout
from lightning_modules.shared_prompt.reading import ordinary_evaluation, states
from lightning_modules.shared_prompt.row import Prefixes


class Prompting(Protocol):
    """What the prompts of a batch are read after: one adapter, or one for each row (`mixed_prefixes.py`)."""

    def inputs(self, base: PreTrainedModel, text: Tensor, mask: Tensor, beams: int) -> dict[str, Any]:
        """What `transformers.generate` is given for prompts (B, T), padded on the left, mask 0 there. The base is released."""

    def of_rows(self, rows: Sequence[int]) -> Self:
        """The same for some rows of the batch."""


class Adapter(nn.Module, ABC):
    """What is trained beside a frozen base."""

    infix = False

    @abstractmethod
    def flat(self) -> Tensor:
        """P: all that is kept after training."""

    @abstractmethod
    def states(self, base: PreTrainedModel, text: Tensor) -> Tensor:
        """(B, T, d) last hidden states of `text` (B, T) under the adapted base; `text` is read after P, not around it."""

    @abstractmethod
    def row_states(self, base: PreTrainedModel, batch: ExampleBatch) -> Tensor:
        """(N, d) last hidden states of a row of trees, made for this adapter's layout. The base is prepared for packing."""

    @abstractmethod
    def inputs(self, base: PreTrainedModel, text: Tensor, mask: Tensor, beams: int) -> dict[str, Any]:
        """See `Prompting`."""

    def of_rows(self, rows: Sequence[int]) -> Self:
        """Itself: every row has the same."""
        return self

    def layout(self, share: bool = True) -> ExampleLayout:
        """How examples are packed for it."""
        return ExampleLayout(virtual_tokens=0, infix=self.infix, share=share)


class Prefix(PrefixProjection, Adapter):
    """Keys and values of `length` positions at every layer; each layer keeps its own number of key/value heads.

    P is (length, layers * 2 * heads * head size).
    """

    def __init__(self, base: PreTrainedModel, settings: PrefixConfig, initial: Tensor | None = None) -> None:
        self.shape = layers, heads, size = cache_shape(base)
        super().__init__(layers * 2 * heads * size, settings, initial)
        self.infix, self.dropout = settings.position == "infix", nn.Dropout(settings.dropout)

    def prefixes(self) -> Prefixes:
        """P as packed trees read it, after dropout."""
        flat = self.dropout(self.flat())
        lengths = torch.tensor([len(flat)], device=flat.device)
        layers = key_values(flat, self.shape)
        return Prefixes([(k[None], v[None]) for k, v in layers], lengths, infix=self.infix)

    def states(self, base: PreTrainedModel, text: Tensor) -> Tensor:
        """(B, T, d) last hidden states of `text` after the prefix."""
        past = cache(self.dropout(self.flat()), self.shape, len(text))
        hidden: Tensor = base.base_model(text, past_key_values=past, use_cache=True).last_hidden_state
        return hidden

    def row_states(self, base: PreTrainedModel, batch: ExampleBatch) -> Tensor:
        return states(base, batch.row, self.prefixes())

    def inputs(self, base: PreTrainedModel, text: Tensor, mask: Tensor, beams: int) -> dict[str, Any]:
        flat, rows = self.flat(), len(text)
        # `generate` takes the first positions of its input for those in the cache: stand-ins, never read.
        trained = mask.new_ones(rows, len(flat))
        before = text.shape[1] - 1 if self.infix else 0  # positions before P
        past = cache(flat, self.shape, rows * beams)
        if before:
            read: Any = base.base_model(
                text[:, :before],
                attention_mask=mask[:, :before],
                position_ids=(mask[:, :before].cumsum(1) - 1).clamp(min=0),
                use_cache=True,
            ).past_key_values
            for own, layer in zip(cast(Any, past).layers, read.layers, strict=True):
                own.keys = torch.cat([layer.keys.repeat_interleave(beams, 0), own.keys], 2)
                own.values = torch.cat([layer.values.repeat_interleave(beams, 0), own.values], 2)
        return {
            "input_ids": torch.cat([text[:, :before], trained, text[:, before:]], 1),
            "attention_mask": torch.cat([mask[:, :before], trained, mask[:, before:]], 1),
            "past_key_values": past,
        }


class PromptEmbedding(Adapter):
    """`length` vectors among the input embeddings; the activations above them are the frozen model's own."""

    def __init__(self, base: PreTrainedModel, settings: PrefixConfig, initial: Tensor | None = None) -> None:
        super().__init__()
        width = embeddings(base).shape[1]
        self.infix, self.dropout = settings.position == "infix", nn.Dropout(settings.dropout)
        self.P = nn.Parameter(
            torch.randn(settings.num_virtual_tokens, width) * 0.02 if initial is None else initial.clone()
        )

    def flat(self) -> Tensor:
        """P, (length, d)."""
        return self.P

    def layout(self, share: bool = True) -> ExampleLayout:
        return ExampleLayout(virtual_tokens=len(self.P), infix=self.infix, share=share)

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
        return states(base, batch.row, embedded=embedded)

    def inputs(self, base: PreTrainedModel, text: Tensor, mask: Tensor, beams: int) -> dict[str, Any]:
        parts = [self.P.expand(len(text), -1, -1), base.get_input_embeddings()(text)]
        masks = [mask.new_ones(len(text), len(self.P)), mask]
        order = slice(None, None, -1 if self.infix else 1)  # padding on the left keeps input and infix together
        return {"inputs_embeds": torch.cat(parts[order], 1), "attention_mask": torch.cat(masks[order], 1)}


class NoPrefix(Adapter):
    """The model as it is: what the others are measured against."""

    def flat(self) -> Tensor:
        """Nothing."""
        return torch.zeros(0)

    def states(self, base: PreTrainedModel, text: Tensor) -> Tensor:
        """(B, T, d) last hidden states of `text`."""
        hidden: Tensor = base.base_model(text, use_cache=False).last_hidden_state
        return hidden

    def row_states(self, base: PreTrainedModel, batch: ExampleBatch) -> Tensor:
        return states(base, batch.row)

    def inputs(self, base: PreTrainedModel, text: Tensor, mask: Tensor, beams: int) -> dict[str, Any]:
        return {"input_ids": text, "attention_mask": mask}


def context(base: PreTrainedModel) -> int | None:
    """Positions that the base has; None where its configuration names no limit."""
    config = base.config.get_text_config()
    found: int | None = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    return found


def longest_text(base: PreTrainedModel, adapter: Adapter) -> int:
    """Tokens of prompt and target together that the base has positions for, beside the trained ones.

    Raises:
        InputError: the trained positions leave no room.
    """
    return _room(base, len(adapter.flat()))


def _room(base: PreTrainedModel, trained: int) -> int:
    positions = context(base) or 1_000_000
    if positions - trained < 2:
        raise InputError(
            f"length: {trained} trained positions leave no room for text in the base's context of {positions:,}."
        )
    return positions - trained


def check_output_layer(base: PreTrainedModel) -> None:
    """The loss is taken from the last states and one linear layer, without the scores of what is no target.

    Raises:
        InputError: the base's scores are made otherwise: scaled, capped or of other states.
        NotFiniteError: they are not numbers.
    """
    ids, layer = torch.tensor([[1, 2]], device=base.device), base.get_output_embeddings()
    weight: Any = getattr(layer, "weight", None)
    with ordinary_evaluation(base):
        expected = base(ids, use_cache=False).logits
        states = base.base_model(ids, use_cache=False).last_hidden_state
        linear = weight is not None and states.shape[-1] == weight.shape[1]
        linear = linear and torch.allclose(layer(states), expected, atol=1e-3)
    if expected.isnan().any():
        raise NotFiniteError
    if not linear:
        raise InputError(
            f"{base.config.model_type}: its scores are more than a linear layer of its last states. Choose another base."
        )


def embeddings(base: PreTrainedModel) -> Tensor:
    """(V, d) input embeddings."""
    return cast(Tensor, base.get_input_embeddings().weight)


def cache_shape(base: PreTrainedModel) -> tuple[int, int, int]:
    """Layers, key/value heads and their size, read from what the base itself keeps of one token.

    Raises:
        InputError: the base keeps no keys and values, or others from layer to layer.
    """
    with ordinary_evaluation(base):
        kept = base.base_model(torch.tensor([[1]], device=base.device), use_cache=True).get("past_key_values")
    layers = [(getattr(x, "keys", None), getattr(x, "values", None)) for x in getattr(kept, "layers", [])]
    shapes = {(x.shape[1], x.shape[3]) for layer in layers for x in layer if x is not None}
    if len(shapes) != 1 or any(x is None for layer in layers for x in layer):
        raise InputError(
            f"{base.config.model_type}: it keeps no keys and values of one shape at all layers. Choose another base."
        )
    (shape,) = shapes
    return (len(layers), *shape)


def cache(flat: Tensor, shape: tuple[int, int, int], batch: int) -> DynamicCache:
    """P as the key/value cache of `batch` rows, as if its positions had been read before."""
    return DynamicCache(
        ddp_cache_data=[(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in key_values(flat, shape)]
    )


def key_values(flat: Tensor, shape: tuple[int, int, int]) -> list[tuple[Tensor, Tensor]]:
    """P as keys and values of each layer, (heads, L, head size)."""
    layers, heads, size = shape
    both = flat.view(len(flat), layers, 2, heads, size).permute(1, 2, 3, 0, 4)
    return [(layer[0], layer[1]) for layer in both]


def activations(base: PreTrainedModel, words: Tensor) -> Tensor:
    """The keys and values of words at every layer, in the layout of P (L, layers * 2 * heads * head size).

    `words` are token ids (L,) or vectors (L, d) of the embedding layer.
    """
    text = {"inputs_embeds" if words.is_floating_point() else "input_ids": words[None].to(base.device)}
    with ordinary_evaluation(base):
        layers = base.base_model(**text, use_cache=True).past_key_values.layers
    both = torch.stack(
        [torch.stack([layer.keys[0], layer.values[0]]) for layer in layers]
    )  # (layers, 2, heads, L, size)
    return both.permute(3, 0, 1, 2, 4).flatten(1).cpu()


def build(variant: str, base: PreTrainedModel, settings: PrefixConfig, initial_tokens: list[int] | None) -> Adapter:
    """The adapter of a variant ("prefix", "prompt_tuning" or "none"), starting from `initial_tokens` where given.

    Raises InputError where so many positions leave no room for text.
    """
    tokens = None
    if initial_tokens:
        _room(base, settings.num_virtual_tokens)  # before the base reads so many
        tokens = torch.tensor([initial_tokens[i % len(initial_tokens)] for i in range(settings.num_virtual_tokens)])
    match variant:
        case "prefix":
            return Prefix(base, settings, None if tokens is None else activations(base, tokens))
        case "prompt_tuning":
            # By the layer, not from its table: some bases scale it.
            initial = None if tokens is None else base.get_input_embeddings()(tokens.to(base.device)).detach().cpu()
            return PromptEmbedding(base, settings, initial)
    return NoPrefix()


@torch.inference_mode()
def transformers_generate(
    base: PreTrainedModel, adapter: Prompting, prompts: Sequence[list[int]], end: int, max_new: int, **options: Any
) -> list[list[int]]:
    """Continuations of prompts of token ids (one batch), up to the token `end`; `options` go to `transformers.generate`.

    Prompts are padded on the left and the padding is masked, so a row gets what it would get alone. What the base's folder says of
    writing (a penalty of repetitions, no cache) does not count.
    """
    text = padded([list(p) for p in prompts], left=True).to(base.device)
    lengths = torch.tensor([[len(p)] for p in prompts], device=base.device)
    mask = (torch.arange(text.shape[1], device=base.device) >= text.shape[1] - lengths).long()
    inputs = adapter.inputs(base, text, mask, options.get("num_beams", 1))
    own, base.generation_config = base.generation_config, GenerationConfig()
    try:
        out = cast(Any, base).generate(
            **inputs,
            max_new_tokens=max_new,
            eos_token_id=end,
            pad_token_id=end,
            do_sample=options.pop("do_sample", False),
            **options,
        )
    finally:
        base.generation_config = own  # it is saved with the base
    skipped = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
    rows = [row[skipped:] for row in out.tolist()]
    return [row[: row.index(end)] if end in row else row for row in rows]
