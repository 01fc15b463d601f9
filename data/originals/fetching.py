"""A public data set, from its originals to a folder of the mirror."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from core.errors import InputError
from core.folders import finished_folder
from data.originals import e2e, multi30k, wmt15
from data.originals.download import download
from data.originals.gzipped import content_sha256
from data.originals.table import ORIGINALS, File, Original

RECORD = "originals.json"  # beside the converted files: what they were made from

# Originals' folder and the new folder -> counts. Raises InputError where an original has another form.
CONVERTERS: dict[str, Callable[[Path, Path], dict[str, int]]] = {
    "multi30k": multi30k.convert,
    "e2e": e2e.convert,
    "wmt15": wmt15.convert,
}


@dataclass(frozen=True)
class Fetched:
    """What `fetch` made."""

    folder: Path
    counts: dict[str, int]
    notes: list[str]
    """What the user should know: files without a published checksum, files unlike those behind docs/results."""


def check(names: list[str], mirror: Path, force: bool) -> None:
    """Says what is wrong before anything is downloaded.

    Raises:
        InputError: a name is unknown, or a folder exists and `force` is False.
    """
    for name in names:
        if name not in ORIGINALS:
            raise InputError(f"{name}: no such data set. Known are: {', '.join(ORIGINALS)}.")
        if (mirror / name).exists() and not force:
            raise InputError(
                f"{mirror / name}: exists already. Leave the name out, or replace the folder with --force."
            )


def fetch(name: str, mirror: Path) -> Fetched:
    """Downloads the originals of a data set and converts them to `mirror/name`, which appears at once or not at all.

    Raises:
        InputError: there is no network, a checksum differs, or an original has another form.
    """
    original = ORIGINALS[name]
    target = mirror / name
    recorded = _recorded(target)
    with finished_folder(target) as folder:
        with TemporaryDirectory(dir=folder) as place:
            originals = Path(place)
            sums = {file: download(file, originals / file.name) for file in original.files}
            sizes = {file: (originals / file.name).stat().st_size for file in original.files}
            notes = [_first_download(file, sizes[file], sums[file], recorded) for file in sums if not file.sha256]
            counts = CONVERTERS[name](originals, folder)
        notes += [_behind_results(folder / file, sha256) for file, sha256 in original.contents.items()]
        _write_record(folder / RECORD, original, sums, sizes)
    return Fetched(target, counts, notes)


def _first_download(file: File, size: int, sha256: str, recorded: dict[str, str]) -> str:
    """What to tell of a file that nobody publishes a checksum of.

    Raises:
        InputError: the file was fetched before, with another content.
    """
    before = recorded.get(file.address, sha256)
    if before != sha256:
        raise InputError(
            f"{file.address}: SHA-256 {sha256}, but at the first download it was {before} ({RECORD}). "
            "Remove the folder to accept the new file."
        )
    return f"{file.name}: no checksum is published. {size:,} bytes came, SHA-256 {sha256}, recorded in {RECORD}."


def _behind_results(path: Path, sha256: str) -> str:
    if content_sha256(path) == sha256:
        return f"{path.name}: it has the content that docs/results were computed from."
    return f"{path.name}: docs/results were computed from another content; docs/how-to/data.md says how they differ."


def _recorded(folder: Path) -> dict[str, str]:
    """Checksums of an earlier download, by address; none if there was none."""
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        return {file["address"]: file["sha256"] for file in json.loads(path.read_text(encoding="utf-8"))["files"]}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: cannot be read. Remove the folder {folder} to fetch it again.") from None


def _write_record(path: Path, original: Original, sums: dict[File, str], sizes: dict[File, int]) -> None:
    record = {
        "what": original.what,
        "licence": original.licence,
        "cite": original.cite,
        "page": original.page,
        "files": [
            {
                "address": file.address,
                "bytes": sizes[file],
                "sha256": sha256,
                "checked": file.sha256 is not None,
            }
            for file, sha256 in sums.items()
        ],
    }
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
