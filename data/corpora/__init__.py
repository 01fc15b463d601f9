"""Corpora of sentence pairs, one file each.

A corpus is a module here with `Config` (a `CorpusConfig`), `pairs(config)`, an iterator over `Pair`, and
`outside(config)`, what it reads. Where a
corpus has official splits, its pairs name theirs; elsewhere `data.splits` divides whole documents.
"""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from core.config import Config, nearest, validated
from core.errors import InputError


class Pair(NamedTuple):
    """One sentence pair of a corpus."""

    document: str  # never divided between splits: a chapter, an article; any unique id where there is none
    source: str
    target: str
    split: str | None = None  # "train", "validation" or "test" where the corpus says so


class CorpusConfig(Config):
    """What every corpus can be told."""

    name: str
    """The corpus: a file of data/corpora/."""
    limit: int | None = Field(default=None, ge=1)
    """Pairs that are read of each official split, for a quick try. `null`: all."""
    prompts: float = Field(default=0.08, ge=0, lt=1)
    """Share of the training documents that is held out: their sources are the prompts that translators answer. 0: none, without responses."""
    validation: float = Field(default=0.03, gt=0, lt=1)
    """Share of the documents held out for validation. Not used where the corpus has its own validation split."""
    test: float = Field(default=0.03, gt=0, lt=1)
    """Share of the documents held out for testing. Not used where the corpus has its own test split."""
    language: str | None = None
    """Language of the targets, ISO 639-1: what BLEU takes for a word. `null`: what the corpus says, or `en`."""

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "CorpusConfig":
        if self.prompts + self.validation + self.test >= 1:
            raise ValueError("prompts + validation + test must be less than 1: the rest is for training")
        return self

    @property
    def official(self) -> frozenset[str]:
        """Which of "validation" and "test" the corpus comes with."""
        return frozenset()

    @property
    def target_language(self) -> str:
        """The language of the targets: ISO 639-1."""
        return self.language or "en"


def names() -> list[str]:
    """Names of all corpora: the modules of this package."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def corpus_config(values: Mapping[str, Any], where: str) -> CorpusConfig:
    """The config of the corpus that `values["name"]` names. Raises InputError on unknown names and keys."""
    return validated(_module(values.get("name"), where).Config, values, where)


def read_pairs(corpus: CorpusConfig) -> Iterator[Pair]:
    """The pairs of a corpus, as far as its limit."""
    pairs: Callable[[CorpusConfig], Iterator[Pair]] = _module(corpus.name, "corpus").pairs
    seen = Counter[str | None]()
    for pair in pairs(corpus):
        seen[pair.split] += 1
        if corpus.limit is None or seen[pair.split] <= corpus.limit:
            yield pair
        elif not corpus.official:
            return


def outside(corpus: CorpusConfig) -> list[str]:
    """What a corpus is read from, as references of `data/outside.py`.

    Raises:
        InputError: a file that its config names does not exist.
    """
    references: list[str] = _module(corpus.name, "corpus").outside(corpus)
    return references


def _module(name: Any, where: str) -> ModuleType:
    if name not in names():
        raise InputError(f"{where}: name: unknown corpus {name!r} - {nearest(str(name), names())}")
    return importlib.import_module(f"data.corpora.{name}")
