"""The batches in a segment's file, by their headers, and a batch that is sent as it lies there."""

import socket
import struct
from pathlib import Path
from typing import Iterator, NamedTuple

# Base offset, length of what follows, leader epoch, magic, checksum, attributes, offsets after the first, two times,
# producer, its epoch, its sequence, records.
_HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = _HEADER.size
_BEFORE_EPOCH = 12
_TRANSACTIONAL_OR_CONTROL = 0x30
# The last version of Produce without compact fields.
_VERSION = 8
_TIMEOUT_S = 30


class Batch(NamedTuple):
    """A batch: where it is, what it covers, and whose it is."""

    position: int
    size: int
    base_offset: int
    offsets: int
    records: int
    # -1 if nobody's.
    producer: int
    # Whether a client sent it by itself, outside of any transaction.
    is_plain: bool


def segments(directory: Path) -> list[Path]:
    """The segments of a partition's directory, the oldest first."""
    return sorted(directory.glob("*.log"))


def batches(path: Path) -> Iterator[Batch]:
    """The batches of a segment, up to where there are no more."""
    data, at = path.read_bytes(), 0
    while at + _HEADER.size <= len(data):
        base, length, _, magic, _, attributes, last, _, _, producer, _, _, records = _HEADER.unpack_from(data, at)
        size = _BEFORE_EPOCH + length
        if magic != 2 or size < _HEADER.size or at + size > len(data):
            return
        yield Batch(at, size, base, last + 1, records, producer, not attributes & _TRANSACTIONAL_OR_CONTROL)
        at += size


def send(bootstrap: str, places: list[tuple[str, int, bytes]]) -> Iterator[tuple[int, int]]:
    """Produces batches to topics and partitions with acks=all, one after the other; each answer's error and offset.

    They are those of a log; a client knows no offset yet.
    """
    host, port = bootstrap.rsplit(":", 1)
    with socket.create_connection((host, int(port)), _TIMEOUT_S) as connection, connection.makefile("rb") as reader:
        for topic, partition, batch in places:
            name, batch = struct.pack(">h", len(topic)) + topic.encode(), bytes(8) + batch[8:]
            request = struct.pack(">hhih", 0, _VERSION, 1, -1) + struct.pack(">hhi", -1, -1, _TIMEOUT_S * 1000)
            request += struct.pack(">i", 1) + name + struct.pack(">iii", 1, partition, len(batch)) + batch
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = reader.read(int.from_bytes(reader.read(4)))
            # The correlation, an array of topics with a name and an array of partitions with an index.
            yield struct.unpack_from(">hq", answer, 4 + 4 + len(name) + 4 + 4)
