"""Multi30k, task 1 (Elliott et al. 2016): image captions in English, translated into German and French."""

from collections.abc import Iterator
from typing import Literal

from data import mirror
from data.corpora import CorpusSettings, Pair
from data.corpora.parallel_text import read_parallel

FILES = {"train": "train", "validation": "val", "test": "test_2016_flickr"}


class Settings(CorpusSettings):
    """Settings of the corpus `multi30k`."""

    name: Literal["multi30k"]
    source: Literal["en", "de", "fr"] = "en"
    target: Literal["en", "de", "fr"] = "de"


def pairs(settings: CorpusSettings) -> Iterator[Pair]:
    """29,000 / 1,014 / 1,000 pairs with their official splits, from the mirror's folder `multi30k`."""
    assert isinstance(settings, Settings)
    folder = mirror.require("multi30k")
    for split, stem in FILES.items():
        yield from read_parallel(
            folder / f"{stem}.{settings.source}.gz", folder / f"{stem}.{settings.target}.gz", split
        )
