"""The images that a power cut could have left of a device: all that was flushed, and any part of what was in flight."""

import os
import random
from itertools import islice
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple

from . import mounts
from .journal import Span, Write, spans

SECTOR, PAGE = 512, 4096
# ext4 takes a write of its superblock for atomic: torn, the filesystem cannot be mounted, nor mended by `e2fsck -p`.
# So whatever touches the first block of the disk arrives whole or not at all.
SUPERBLOCK_END = 4096


class Piece(NamedTuple):
    """Bytes in flight that made it to the disk."""

    offset: int
    data: bytes


class DurableImage:
    """The disk with exactly what had been flushed; it moves on from flush to flush.

    It is made when the first cut asks for it: whoever counts moments needs none.
    """

    def __init__(self, path: Path, formatted: Path, journal: Path):
        self.path = path
        self._formatted = formatted
        self._journal = journal
        self._flushes = 0

    def flush(self, span: Span) -> None:
        """What was in flight has become durable."""
        self._flushes += 1
        if self.path.exists():
            self._write([span])

    def _write(self, flushed: Iterable[Span]) -> None:
        with self.path.open("r+b") as file:
            for span in flushed:
                for write in span.writes:
                    os.pwrite(file.fileno(), write.data, write.offset)

    def cut(self, target: Path, arrived: list[Piece]) -> None:
        """Writes an image of a cut: what is durable, and what else has arrived."""
        if not self.path.exists():
            mounts.copy_sparse(self._formatted, self.path)
            self._write(islice(spans(self._journal), self._flushes))
        mounts.copy_sparse(self.path, target)
        with target.open("r+b") as file:
            for piece in arrived:
                os.pwrite(file.fileno(), piece.data, piece.offset)


class BlockMoment:
    """The moment before a flush completes. It can be cut at until the next one is asked for."""

    def __init__(self, span: Span, durable: DurableImage):
        self.number = span.flushes
        self.end = span.end
        self.is_cut = bool(span.writes)
        self.variants = 2
        self._writes = span.writes
        self._durable = durable

    def arriving(self) -> list[bytes]:
        """What is written with the flush."""
        return [write.data for write in self._writes]

    def cut(self, target: Path, rng: random.Random | None) -> None:
        """Writes an image of what is durable, and with `rng` of some of what is in flight."""
        self._durable.cut(target, some_of(self._writes, rng) if rng else [])


def block_moments(image: Path, journal: Path, scratch: Path) -> Iterator[BlockMoment]:
    """The moments of a life that began as `image`. Keeps an image in the directory `scratch`."""
    durable = DurableImage(scratch / "durable", image, journal)
    for span in spans(journal):
        yield BlockMoment(span, durable)
        durable.flush(span)


def some_of(writes: list[Write], rng: random.Random) -> list[Piece]:
    """A part of what was in flight, as a disk with a cache may leave it: whole writes dropped, others torn.

    Writes keep their order, so the later of two that overlap wins if both arrive; if it does not, the disk looks as if
    they had been reordered.
    """
    way = rng.choice(["few are lost", "few arrive", "half", "torn", "one torn"])
    pieces = []
    torn = rng.randrange(len(writes)) if writes else 0
    for index, write in enumerate(writes):
        if way == "torn" or (way == "one torn" and index == torn):
            pieces += _torn(write, rng)
        elif rng.random() < {"few are lost": 0.9, "few arrive": 0.1, "half": 0.5, "one torn": 0.5}[way]:
            pieces.append(Piece(write.offset, write.data))
    return pieces


def _torn(write: Write, rng: random.Random) -> list[Piece]:
    size = rng.choice([SECTOR, PAGE])
    if write.offset < SUPERBLOCK_END:
        size = len(write.data)
    share = rng.random()
    return [
        Piece(write.offset + at, write.data[at : at + size])
        for at in range(0, len(write.data), size)
        if rng.random() < share
    ]
