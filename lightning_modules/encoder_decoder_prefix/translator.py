"""Prefixes of an encoder-decoder (Li & Liang 2021, 4.2 and 6.2): before the source in the encoder, before the target in the decoder, and
before the source where the decoder looks at it.

`EncoderDecoderPrefix` is what is trained. With `PrefixedTransformer` this project's Transformer reads it; `pretrained.py` does that for the
encoder-decoders of `transformers`.

It may start from real words. In a bidirectional encoder their activations would depend on the source. So the words are read alone, by the
encoder and then by the decoder. At step 0 the model does what it would do if it read the words before source and target, and they saw
nothing but themselves.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from data.tokenizer import PAD
from lightning_modules.prefix_tuning.config import PrefixConfig
from lightning_modules.prefix_tuning.key_values import key_values
from lightning_modules.prefix_tuning.projection import PrefixEncoder
from lightning_modules.training.config import TrainingConfig
from lightning_modules.training.likelihood import MaximumLikelihoodModule
from lightning_modules.translators.base import Memory, State, Step
from lightning_modules.translators.module import cross_entropy
from lightning_modules.translators.transformer.model import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    Transformer,
    fused_attention,
)

PARTS = ("encoder", "cross", "decoder")


class PartShape(NamedTuple):
    """Attentions of one part: how many, and their heads."""

    layers: int
    heads: int
    size: int


class EncoderDecoderPrefix(nn.Module):
    """Keys and values of L virtual tokens for every attention of an encoder-decoder. Each part has its own P and its own MLP."""

    def __init__(
        self, shapes: Mapping[str, PartShape], config: PrefixConfig, initial: Mapping[str, Tensor] | None = None
    ) -> None:
        """`initial`: for each of PARTS (L, layers * 2 * heads * size)."""
        super().__init__()
        self.shapes, self.length, self.dropout = dict(shapes), config.num_virtual_tokens, nn.Dropout(config.dropout)
        self.parts = nn.ModuleDict(
            {
                part: PrefixEncoder(layers * 2 * heads * size, config, initial[part] if initial else None)
                for part, (layers, heads, size) in self.shapes.items()
            }
        )

    def prompt_embeddings(self) -> dict[str, Tensor]:
        """P of each part: all that is kept after training."""
        return {part: cast(PrefixEncoder, table).prompt_embeddings() for part, table in self.parts.items()}

    def key_values(self) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """Keys and values (heads, L, size) of each part's layers, after dropout."""
        return {
            part: key_values(self.dropout(table), self.shapes[part]) for part, table in self.prompt_embeddings().items()
        }


class PrefixedTransformer(Transformer):
    """A Transformer that reads a prefix; it shares the base's layers. Positions of source and target follow the prefix's."""

    def __init__(self, base: Transformer, prefix: EncoderDecoderPrefix) -> None:
        nn.Module.__init__(self)
        self.config = base.config
        for name, module in base.named_children():
            self.add_module(name, module)
        self.prefix = prefix

    def encode(self, source: Tensor) -> Memory:
        visible = source != PAD
        seen = self._seen(visible)[:, None, None]
        x = self.embed(source, first=self.prefix.length)
        for module, trained in zip(self.encoder, self.prefix.key_values()["encoder"], strict=True):
            layer = cast(EncoderLayer, module)
            x = layer.residual(0, x, partial(_self_attend, layer.attention, trained=trained, mask=seen))
            x = layer.residual(1, x, layer.feed_forward)
        return {"states": self.encoder_norm(x), "visible": visible}

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        states, length, width = memory["states"], self.prefix.length, target.shape[1]
        seen = self._seen(memory["visible"])[:, None, None]
        place = torch.arange(length + width, device=target.device)
        causal = place <= length + torch.arange(width, device=target.device)[:, None]
        x, trained = self.embed(target, first=length), self.prefix.key_values()
        for layer, before_target, before_source in zip(
            self._decoder_layers(), trained["decoder"], trained["cross"], strict=True
        ):
            x = layer.residual(0, x, partial(_self_attend, layer.attention, trained=before_target, mask=causal))
            x = layer.residual(2, x, partial(_attend, layer.cross, memory=states, trained=before_source, mask=seen))
            x = layer.residual(1, x, layer.feed_forward)
        return self.decoder_norm(x)

    def start(self, memory: Memory, beams: int) -> State:
        state, trained = super().start(memory, beams), self.prefix.key_values()
        sentences = len(memory["states"])
        for i, layer in enumerate(zip(trained["decoder"], trained["cross"], strict=True)):
            for name, before_target, before_source in zip(("keys", "values"), *layer, strict=True):
                state[f"{name}{i}"] = before_target.expand(sentences * beams, -1, -1, -1)
                before = before_source.expand(sentences, -1, -1, -1)
                memory[f"{name}{i}"] = torch.cat([before, memory[f"{name}{i}"]], 2)
        memory["visible"] = self._seen(memory["visible"])
        return state

    def step(self, memory: Memory, state: State, previous: Tensor) -> Step:
        features, attention, state = super().step(memory, state, previous)
        return Step(features, None if attention is None else attention[:, self.prefix.length :], state)

    def _seen(self, visible: Tensor) -> Tensor:
        """Prepends L visible positions of the prefix to the mask (B, S): (B, L + S)."""
        return torch.cat([visible.new_ones(len(visible), self.prefix.length), visible], 1)


def _attend(attention: Attention, y: Tensor, memory: Tensor, trained: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """As `Attention.forward`, with trained keys and values before those of `memory`."""
    pairs = zip(trained, attention.keys_values(memory), strict=True)
    keys, values = (torch.cat([before.expand(len(y), -1, -1, -1), read], 2) for before, read in pairs)
    return attention.merge(fused_attention(attention.queries(y), keys, values, mask))


def _self_attend(attention: Attention, y: Tensor, trained: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    return _attend(attention, y, y, trained, mask)


def transformer_shapes(base: Transformer) -> dict[str, PartShape]:
    """Attentions of this project's Transformer."""
    s = base.config
    return dict.fromkeys(PARTS, PartShape(s.num_layers, s.num_heads, s.hidden_size // s.num_heads))


@torch.no_grad()
def transformer_activations(base: Transformer, words: Tensor) -> dict[str, Tensor]:
    """The keys and values of words (L,), read alone by encoder and decoder, in the layout of `EncoderDecoderPrefix.prompt_embeddings`."""
    read: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    hooks = []
    for part, attention in _attentions(base):

        def keep(_: nn.Module, __: Any, output: Tensor, into: list[Tensor] = read[part]) -> None:
            into.append(output[0].cpu())  # (L, 2 * d): keys, then values, each with its heads one after the other

        hooks.append(attention.key_value.register_forward_hook(keep))
    training, text = base.training, words[None].to(next(base.parameters()).device)
    base.eval()(text, text)
    base.train(training)
    for hook in hooks:
        hook.remove()
    return {part: torch.cat(layers, 1) for part, layers in read.items()}


def _attentions(base: Transformer) -> list[tuple[str, Attention]]:
    encoder = [("encoder", cast(EncoderLayer, layer).attention) for layer in base.encoder]
    decoder = [cast(DecoderLayer, layer) for layer in base.decoder]
    return [*encoder, *(("cross", d.cross) for d in decoder), *(("decoder", d.attention) for d in decoder)]


class TransformerPrefixTuningModule(MaximumLikelihoodModule):
    """Cross entropy of the target on a frozen Transformer; checkpoints hold the prefix alone."""

    def __init__(
        self, base: Transformer, prefix: EncoderDecoderPrefix, config: TrainingConfig, steps_per_epoch: int
    ) -> None:
        super().__init__(prefix, config, steps_per_epoch, base.hidden_size)
        self.prefixed = (PrefixedTransformer(base.requires_grad_(False).eval(), prefix),)

    def on_fit_start(self) -> None:
        self.prefixed[0].to(self.device)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """Cross entropy of a batch: `source` (B, S) and `target` (B, T) as `data.loaders.translation_loader` makes them."""
        return cross_entropy(self.prefixed[0], batch)
