"""Messages that go in, records that come out, and what has to hold between them."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Iterable, NamedTuple


@dataclass
class Message:
    """What a test gives to a producer. `timestamp` is in milliseconds since 1970."""

    value: bytes | None
    key: bytes | None = None
    timestamp: int = 1_700_000_000_000
    partition: int = 0
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


class Record(NamedTuple):
    """What a consumer got."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def by_partition(records: Iterable[Record]) -> dict[int, list[Record]]:
    """The records of each partition, in the order in which they were read."""
    partitions = defaultdict(list)
    for record in records:
        partitions[record.partition].append(record)
    return dict(partitions)


def assert_contiguous(records: Iterable[Record], first: dict[int, int] | int = 0) -> None:
    """Within each partition the offsets are first, first + 1, first + 2, ... in the order of reading."""
    for partition, read in by_partition(records).items():
        start = first if isinstance(first, int) else first[partition]
        for expected, record in enumerate(read, start):
            assert record.offset == expected, f"partition {partition}: offset {record.offset} where {expected} was due"


def assert_same(read: Iterable[Record], sent: Iterable[Message], timestamps: bool = True) -> None:
    """What was read is what was sent, partition by partition and in order, with contiguous offsets from 0."""
    expected = defaultdict(list)
    for message in sent:
        expected[message.partition].append(message)
    read = by_partition(read)
    assert {p: len(r) for p, r in read.items()} == {p: len(m) for p, m in expected.items()}
    for partition, messages in expected.items():
        assert_contiguous(read[partition])
        for record, message in zip(read[partition], messages):
            got = (record.key, record.value, list(record.headers))
            wanted = (message.key, message.value, list(message.headers))
            assert got == wanted, f"partition {partition}, offset {record.offset}"
            if timestamps:
                assert record.timestamp == message.timestamp, f"partition {partition}, offset {record.offset}"
