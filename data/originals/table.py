"""The only place that says where the public originals are, how big they are, what they contain and under which terms.

Addresses name a commit, where there is one: their content never changes. How each number was got:

- Multi30k: from the files of the commit.
- E2E: likewise. The training file is that of the release v1.0.0; its Git object, fa3a5e11, is the one that the commit names.
- WMT15: the rankings from the file of the commit. Of the archive with the texts no checksum is published. Its address is the one
  that other projects download it from; its size was not known when this was written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class File:
    """A file as it is published."""

    address: str
    size: int | None
    """Bytes. None: not known before the download."""
    sha256: str | None
    """Checksum of the file. None: none is published; that of the first download is shown and recorded."""

    @property
    def name(self) -> str:
        return self.address.rsplit("/", 1)[1]


@dataclass(frozen=True)
class Original:
    """A data set: its files, terms and source."""

    what: str
    licence: str
    cite: str
    page: str
    """Where its authors describe it."""
    files: tuple[File, ...]
    contents: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the unpacked content of the mirror's files behind docs/results, where the checks above do not imply it."""


def _files(folder: str, *rows: tuple[str, int | None, str | None]) -> tuple[File, ...]:
    return tuple(File(f"{folder}/{name}", size, sha256) for name, size, sha256 in rows)


ORIGINALS = {
    "multi30k": Original(
        what="Multi30k, task 1: image captions in English, German and French",
        licence="CC BY-NC-SA 4.0 (https://www.statmt.org/wmt16/multimodal-task.html)",
        cite="Elliott et al. 2016 (https://aclanthology.org/W16-3210); French: Elliott et al. 2017 (https://aclanthology.org/W17-4718)",
        page="https://github.com/multi30k/dataset",
        files=_files(
            "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw",
            ("train.en.gz", 568_929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
            ("train.de.gz", 637_044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
            ("train.fr.gz", 604_242, "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c"),
            ("val.en.gz", 21_650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
            ("val.de.gz", 24_681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
            ("val.fr.gz", 23_001, "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9"),
            ("test_2016_flickr.en.gz", 21_077, "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"),
            ("test_2016_flickr.de.gz", 22_890, "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"),
            ("test_2016_flickr.fr.gz", 22_310, "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90"),
        ),
    ),
    "e2e": Original(
        what="E2E NLG Challenge: restaurant descriptions from meaning representations",
        licence="CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/)",
        cite="Novikova et al. 2017 (https://arxiv.org/abs/1706.09254)",
        page="https://github.com/tuetschek/e2e-dataset",
        files=_files(
            "https://raw.githubusercontent.com/tuetschek/e2e-dataset/ab0d967dd5729ce455ef14ba9ffafc456a335264",
            ("trainset.csv", 9_340_189, "f27d48df45815288ab15619d47a79028c300fbb7f42e373668aba0b98c1d57c6"),
            ("devset.csv", 1_161_305, "fc26b78cdb849c80545f513b223d1e051138b43882eeb79e3eb153e689c864f9"),
            ("testset_w_refs.csv", 1_310_822, "edc8db685e39bb9824d5bd70c18b1c9b0412d14b527aa960e2d1c8251ee15ccd"),
        ),
        contents={"trainset.csv.gz": "809285b24b6eaf7e4ee575bd14c7d416ae8626fd1848f80eea7cb6d0ece642bb"},
    ),
    "wmt15": Original(
        what="WMT15 manual evaluation: rankings of translations into English, with their texts",
        licence="no licence comes with the files; WMT releases its data for research",
        cite="Bojar et al. 2015 (https://aclanthology.org/W15-3001)",
        page="https://www.statmt.org/wmt15/results.html",
        files=(
            *_files(
                "https://raw.githubusercontent.com/cfedermann/wmt15/a9131bc274d613365c4c2a4d16b6cea7c4a9f053/data",
                ("wmt15.xml.gz", 787_626, "8a8211c577bbcf791ebaa0d219740a1b3bd973fe6d2fd6f7bc6fabcc2e9d67f6"),
            ),
            *_files("https://www.statmt.org/wmt15", ("wmt15-submitted-data.tgz", None, None)),
        ),
        contents={"rankings.jsonl.gz": "587aca4285803479ef991880c759049ff69fb4f3557a36004c7db51d87431828"},
    ),
}
