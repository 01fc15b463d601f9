"""Compressed files as streams: what is read is unpacked while it is read, so a small file that unpacks to a huge one fills no memory."""

import gzip
import io
import lzma
from collections.abc import Callable
from typing import IO

ENDINGS = (".gz", ".xz", ".zst")
ERRORS = (EOFError, OSError, lzma.LZMAError)  # of a broken file; zlib's errors are beside these
_MAX_MEMORY = 256 * 1024 * 1024  # of a decoder; `xz -9` makes files that need 65 MiB
_CHUNK = 64 * 1024


def unpacked(raw: IO[bytes], ending: str) -> io.BufferedReader:
    """The contents of a file whose name has this ending, one of `ENDINGS`. Errors (`ERRORS`, zlib.error) come while it is read."""
    openers: dict[str, Callable[[], io.RawIOBase]] = {
        ".gz": lambda: gzip.GzipFile(fileobj=raw),  # type: ignore[dict-item,return-value]  # it is one but for its type
        ".xz": lambda: _Xz(raw),
        ".zst": lambda: _zst(raw),
    }
    return io.BufferedReader(openers[ending]())


def _zst(raw: IO[bytes]) -> io.RawIOBase:
    import pyarrow as pa  # its decoder refuses windows of more than 128 MiB

    stream: io.RawIOBase = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    return stream


class _Xz(io.RawIOBase):
    """As lzma.LZMAFile, with a limit of the memory that a file's header can ask for."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._decoder: lzma.LZMADecompressor | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            if self._decoder is None or self._decoder.eof:  # a file may have several streams
                rest = (self._decoder.unused_data if self._decoder else b"").lstrip(b"\0") or self._raw.read(_CHUNK)
                if not rest.lstrip(b"\0"):
                    return 0
                self._decoder = lzma.LZMADecompressor(memlimit=_MAX_MEMORY)
            elif self._decoder.needs_input:
                rest = self._raw.read(_CHUNK)
                if not rest:
                    raise EOFError("the file ends in the middle")
            else:
                rest = b""
            data = self._decoder.decompress(rest, max_length=len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
