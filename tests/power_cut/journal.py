"""The disk's journal, read back: every write and flush in order, and the moments between them."""

import mmap
import struct
from pathlib import Path
from typing import Iterator, NamedTuple

_ENTRY = struct.Struct("<BxxxIQ")
_WRITE, _ZERO, _FLUSH, _FAILED = 1, 2, 3, 4


class Write(NamedTuple):
    """Bytes that went to a place of the disk. `position` is the number of entries before this one."""

    position: int
    offset: int
    data: bytes


class Span(NamedTuple):
    """From one flush to the next: `flushes` have completed, and what is written is in flight.

    `end` is the position of the flush that ends it, which makes the writes durable when it completes. Until then, a
    power cut may take any of them.
    """

    flushes: int
    end: int
    writes: list[Write]


def spans(path: Path) -> Iterator[Span]:
    """The spans of a journal. The last one has no flush that ends it: what nobody flushed is left out."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as entries:
        at, position, flushes, writes = 0, 0, 0, []
        while at + _ENTRY.size <= len(entries):
            kind, length, offset = _ENTRY.unpack_from(entries, at)
            at += _ENTRY.size
            if kind == _WRITE:
                writes.append(Write(position, offset, entries[at : at + length]))
                at += length
            elif kind == _ZERO:
                writes.append(Write(position, offset, bytes(length)))
            elif kind == _FLUSH:
                yield Span(flushes, position, writes)
                flushes, writes = flushes + 1, []
            else:
                assert kind == _FAILED, f"entry {position} of {path} is of kind {kind}"
            position += 1
