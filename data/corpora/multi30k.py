"""Multi30k, task 1 (Elliott et al. 2016): image captions in English, translated into German and French."""

from collections.abc import Iterator
from typing import Literal

from data import mirror
from data.corpora import CorpusConfig, Pair, hub
from data.corpora.parallel_text import read_parallel

HUB = "bentrevett/multi30k"  # English and German only
FILES = {"train": "train", "validation": "val", "test": "test_2016_flickr"}


class Config(CorpusConfig):
    """Settings of the corpus `multi30k`."""

    name: Literal["multi30k"]
    """Multi30k, task 1: image captions."""
    source: Literal["en", "de", "fr"] = "en"
    """Language of the sources. The copy on the hub has no French."""
    target: Literal["en", "de", "fr"] = "de"
    """Language of the targets."""

    @property
    def official(self) -> frozenset[str]:
        return frozenset({"validation", "test"})

    @property
    def target_language(self) -> str:
        return self.language or self.target


def outside(config: CorpusConfig) -> list[str]:
    """Two files of the mirror for each split, else the hub's data set."""
    assert isinstance(config, Config)
    folder = mirror.folder("multi30k")
    if folder is None:
        return [f"hub:datasets/{HUB}"]
    return [str(folder / f"{stem}.{side}.gz") for stem in FILES.values() for side in (config.source, config.target)]


def pairs(config: CorpusConfig) -> Iterator[Pair]:
    """29,000 / 1,014 / 1,000 pairs with their official splits, from the mirror's folder `multi30k`, else from the hub."""
    assert isinstance(config, Config)
    folder = mirror.folder("multi30k")
    if folder is None:
        yield from hub.official_pairs("multi30k", HUB, config.source, config.target)
        return
    for split, stem in FILES.items():
        yield from read_parallel(folder / f"{stem}.{config.source}.gz", folder / f"{stem}.{config.target}.gz", split)
