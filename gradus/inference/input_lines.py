"""Lines of a stream as they come: groups of those that have arrived, without waiting for more."""

import codecs
import os
import select
import sys
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from core.errors import InputError

MAX_BYTES = 1 << 20  # bytes of a line that are kept, and of a group of lines: no input fills the memory


class Line(NamedTuple):
    """One line, without its end; `problem` says what was wrong with it and what was done."""

    number: int
    text: str
    problem: str | None


def standard_input() -> int:
    """Its file descriptor. Raises InputError where it is closed."""
    if sys.stdin is None:
        raise InputError("standard input: it is closed; give lines by a pipe or from a file (< FILE).")
    return sys.stdin.fileno()


def line_groups(stream: int, max_lines: int) -> Iterator[list[Line]]:
    """Groups of 1 .. `max_lines` lines of a file descriptor: waits for the first line of a group, and for no other.

    A group has at most `MAX_BYTES` bytes, or is one line. Bytes that are not UTF-8 become U+FFFD, and of a line longer than
    `MAX_BYTES` bytes the rest is left out: a line always stays one line. A byte-order mark is not
    part of the first line. Raises InputError when there is nothing to read from.
    """
    ready: list[bytes] = []
    rest, number, ended = bytearray(), 0, False
    while True:
        while (
            not ended
            and len(ready) < max_lines
            and sum(map(len, ready)) < MAX_BYTES
            and (not ready or select.select([stream], [], [], 0)[0])
        ):
            try:
                block = os.read(stream, 1 << 16)
            except OSError as error:
                raise InputError(f"standard input: cannot be read ({error.strerror}).") from None
            ended = not block
            first, *others = block.split(b"\n")
            rest += first[: MAX_BYTES + 1 - len(rest)]  # one byte too many shows that there were more
            for part in others:
                ready.append(bytes(rest))
                rest = bytearray(part[: MAX_BYTES + 1])
            if ended and rest:  # the last line has no end
                ready.append(bytes(rest))
        if not ready:
            return
        count = max(1, bisect_right(list(accumulate(map(len, ready[:max_lines]))), MAX_BYTES))
        group, ready = ready[:count], ready[count:]
        if not number:
            group[0] = group[0].removeprefix(codecs.BOM_UTF8)
        yield [_decoded(number + i, raw) for i, raw in enumerate(group, start=1)]
        number += len(group)


def _decoded(number: int, raw: bytes) -> Line:
    too_long = len(raw) > MAX_BYTES
    raw = raw[:MAX_BYTES].rstrip(b"\r")
    problems = [f"longer than {MAX_BYTES:,} bytes: the rest was left out"] if too_long else []
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(raw, final=not too_long)  # it may be cut inside a letter
    except UnicodeDecodeError as error:
        problems.append(f"not UTF-8 ({error.reason} at byte {error.start}): such bytes were read as U+FFFD")
        text = raw.decode("utf-8", "replace")
    return Line(number, text, "; ".join(problems) or None)
