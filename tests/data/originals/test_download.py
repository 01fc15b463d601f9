"""A download: its checksum, its size, its address; what a user reads when it fails."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from core.errors import InputError
from data.originals import download as module
from data.originals.download import download
from data.originals.table import File

CONTENT = b"a sentence\n" * 400_000


@pytest.fixture
def file(served: tuple[Path, str]) -> File:
    folder, address = served
    (folder / "train.en").write_bytes(CONTENT)
    return File(f"{address}/train.en", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    handler = type("Handler", (BaseHTTPRequestHandler,), {"do_GET": answer})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/file"
        server.shutdown()


def test_what_arrives_is_what_was_published(file: File, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert download(file, tmp_path / "copy") == file.sha256
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert "train.en" in capsys.readouterr().out, "a progress bar"


def test_an_unpublished_checksum_is_returned(file: File, tmp_path: Path) -> None:
    assert download(replace(file, size=None, sha256=None), tmp_path / "copy") == file.sha256


def test_another_content_is_refused(file: File, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"SHA-256 {file.sha256}, but {'0' * 64} expected"):
        download(replace(file, sha256="0" * 64), tmp_path / "copy")


def test_more_bytes_than_expected_are_refused(file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="more than 10 bytes"):
        download(replace(file, size=10), tmp_path / "copy")
    monkeypatch.setattr(module, "LARGEST", 2_000_000)
    with pytest.raises(InputError, match="more than 2,000,000 bytes"):
        download(replace(file, size=None, sha256=None), tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size <= 2_000_000


def test_a_missing_file_is_named(file: File, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/train.enx: HTTP 404 .*moved"):
        download(replace(file, address=f"{file.address}x"), tmp_path / "copy")


def test_without_a_network_the_error_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(InputError, match=r"data.example cannot be reached") as caught:
        download(File("https://data.example/x.gz", None, None), tmp_path / "copy")
    assert "\n" not in str(caught.value)


def test_only_https_is_fetched_after_a_redirect_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"http://data.example/x: not https"):
        download(File("http://data.example/x", None, None), tmp_path / "copy")

    def to_http(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "http://data.example/x")
        handler.end_headers()

    with answering(to_http) as address, pytest.raises(InputError, match=r"http://data.example/x: not https"):
        download(File(address, None, None), tmp_path / "copy")


def test_a_connection_that_breaks_is_an_error(tmp_path: Path) -> None:
    def half(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x" * 500)

    with answering(half) as address, pytest.raises(InputError, match=r"the download broke .* Run the command again"):
        download(File(address, None, None), tmp_path / "copy")
