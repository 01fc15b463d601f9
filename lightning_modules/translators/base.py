"""What every translator is: an encoder, a decoder that sees all target tokens at once, and the same decoder step by step.

An architecture is a package beside this file: its `config.py` exports its `TranslatorConfig` as `Config`, its `model.py` its subclass of
`Translator` as `Model`. `architecture(name)` finds it, and nothing else has to list it. What an architecture shares with others is a module
beside this file. Its folder `linked/` links that module, and so DVC sees who depends on it.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from data.tokenizer import PAD
from lightning_modules.translators.config import TranslatorConfig, architecture_module

# Tensors by name, every one with the sentence (Memory) or the hypothesis (State) as its first dimension, so that decoding
# can pick, repeat and drop rows without a look into them.
Memory = dict[str, Tensor]
State = dict[str, Tensor]


class Step(NamedTuple):
    """What a decoder gives for one target position of R hypotheses."""

    features: Tensor  # (R, d), input of the output layer
    attention: Tensor | None  # (R, S), weights over the source; None of a model that has no attention
    state: State


class Translator(nn.Module, ABC):
    """Base of the encoder-decoder architectures. Shapes: B sentences, S source and T target tokens, vocabulary size V."""

    Config: ClassVar[type[TranslatorConfig]]

    @property
    @abstractmethod
    def output(self) -> tuple[Tensor, Tensor | None]:
        """Weight (V, d) and bias (V,) of the output layer; d is the number of features of a target position."""

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states: the key `hidden_size` of the config, which every architecture here has."""
        return int(cast(Any, self).config.hidden_size)

    @property
    def aligned_step(self) -> Literal["predicted", "input"] | None:
        """Which target token the attention of a step aligns: the one it predicts, or the one it reads. None: no attention."""
        return None

    @property
    def longest_source(self) -> int | None:
        """The most source tokens, without the end token, that the model can read; None is any number."""
        return None

    @abstractmethod
    def encode(self, source: Tensor) -> Memory:
        """The encoded source (B, S), padded on the right."""

    @abstractmethod
    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        """Features (B, T, d) for the tokens after each of `target` (B, T), which starts with the begin token."""

    @abstractmethod
    def start(self, memory: Memory, beams: int) -> State:
        """The decoder's state before the first target token, `beams` rows for each sentence.

        It may add to `memory` what is the same at every step, such as projected keys. Call it once, before `step`.
        """

    @abstractmethod
    def step(self, memory: Memory, state: State, previous: Tensor) -> Step:
        """One target position: `previous` (R,) are the tokens before it, R a multiple of the B sentences in `memory`."""

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Features (B, T, d) as of `decode`, from the source (B, S), padded on either side, and target (B, T), padded on the right."""
        return self.decode(self.encode(right_padded(source)), target)


def architecture(name: str, where: str = "architecture") -> type[Translator]:
    """The translator that the package `name` exports. Raises InputError on an unknown name; `where` is the key that has it."""
    model: type[Translator] = architecture_module(name, "model", where).Model
    return model


def right_padded(tokens: Tensor) -> Tensor:
    """The same rows (B, S) with all padding on the right, the side from which encoders count positions."""
    return tokens.gather(1, (tokens == PAD).to(torch.int8).argsort(dim=1, stable=True))


def reversal(lengths: Tensor, size: int) -> Tensor:
    """(B, size) indices that reverse the first `lengths` (B,) positions of each row and leave the padding where it is."""
    position = torch.arange(size, device=lengths.device)
    return torch.where(position < lengths[:, None], lengths[:, None] - 1 - position, position)
