"""A Produce request, byte by byte: for batches that no client would send."""

import socket
import struct

from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c

# The last version without compact fields.
VERSION = 8


def batch(timestamp: int) -> bytearray:
    """An uncompressed batch of one record, as a client would send it."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 16)
    builder.append(0, timestamp, b"k", b"v", [])
    return bytearray(builder.build())


def sign(batch: bytearray) -> bytes:
    """The batch with the checksum of what it holds, which leaves out what stands before it."""
    batch[17:21] = struct.pack(">I", calc_crc32c(memoryview(batch)[21:]))
    return bytes(batch)


def produce(bootstrap: str, topic: str, batch: bytes) -> int:
    """Produces to partition 0 with acks=all, and answers with the error's code."""
    header = struct.pack(">hhi", 0, VERSION, 1) + _string("raw")
    body = struct.pack(">hhi", -1, -1, 30_000)
    body += struct.pack(">i", 1) + _string(topic)
    body += struct.pack(">iii", 1, 0, len(batch)) + batch
    request = header + body
    host, port = bootstrap.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        reader = connection.makefile("rb")
        answer = reader.read(int.from_bytes(reader.read(4), "big"))
    # The correlation id, an array of topics with a name and an array of partitions with an index.
    return struct.unpack_from(">h", answer, 4 + 4 + 2 + len(topic) + 4 + 4)[0]


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()
