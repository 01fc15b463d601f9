"""One file from its address to this machine: over https, within a size, with its checksum."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from core.errors import InputError
from core.progress import Progress
from data.originals.table import File

LARGEST = 500_000_000  # bytes of a file whose size the table does not know
CHUNK = 2**20
CONNECT_SECONDS, SILENT_SECONDS = 15, 60  # waited at most for a connection, and for the next bytes


def download(file: File, target: Path) -> str:
    """Writes `file` to `target`, with a progress bar, and returns the SHA-256 of what came.

    It takes proxies from the environment (`HTTPS_PROXY`), as `requests` does. A broken download starts over next time.

    Raises:
        InputError: the address cannot be reached or is not https, the file is longer than it should be, or its checksum differs.
    """
    host = urlsplit(file.address).hostname
    digest = hashlib.sha256()
    try:
        with _HttpsOnly() as session, open(target, "wb") as stream:
            # Identity: the checksum is that of the file, and a server may pack what it sends.
            response = session.get(
                file.address,
                stream=True,
                timeout=(CONNECT_SECONDS, SILENT_SECONDS),
                headers={"Accept-Encoding": "identity"},
            )
            if response.status_code != requests.codes.ok:
                raise InputError(f"{file.address}: HTTP {response.status_code} {response.reason}. Has the file moved?")
            size = file.size or int(response.headers.get("Content-Length") or 0)
            limit = file.size or LARGEST
            progress, received = Progress(file.name, size), 0
            for chunk in response.iter_content(CHUNK):
                received += len(chunk)
                if received > limit:
                    raise InputError(f"{file.address}: more than {limit:,} bytes, which is too much. Nothing is kept.")
                stream.write(chunk)
                digest.update(chunk)
                if size:
                    progress.update(received, f"{received:,} bytes")
    except (requests.ConnectionError, requests.Timeout) as error:
        raise InputError(
            f"{host} cannot be reached ({type(error).__name__}). Data are fetched over a network; a proxy is named in HTTPS_PROXY."
        ) from None
    except requests.RequestException as error:
        raise InputError(
            f"{file.address}: the download broke ({type(error).__name__}). Run the command again."
        ) from None
    sha256 = digest.hexdigest()
    if file.sha256 not in (None, sha256):
        raise InputError(
            f"{file.address}: {received:,} bytes with SHA-256 {sha256}, but {file.sha256} expected. "
            "Nothing is kept. Run the command again; if it fails again, a proxy or the server gives another file."
        )
    return sha256


class _HttpsOnly(requests.Session):
    """Refuses every address, redirects included, that is neither https nor of this machine."""

    def send(self, request: Any, **options: Any) -> Any:
        parts = urlsplit(request.url)
        if parts.scheme != "https" and parts.hostname != "127.0.0.1":
            raise InputError(f"{request.url}: not https, and so not fetched.")
        return super().send(request, **options)
