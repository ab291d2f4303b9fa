"""Numbered messages and the book that is kept of them: what was sent, what was acknowledged, what was read.

A `Stream` writes 0, 1, 2, ... to each of its partitions; a `Reader` reads them back over any number of restarts of the
broker. The log may hold more than what was acknowledged, never less, and never in another order.
"""

import time
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from .clients import new_group

TIMEOUT_S = 60

# A client that looks for its broker again soon, and without a line about each attempt: tests kill it all the time.
PERSISTENT = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20, "log_level": 0}


class Read(NamedTuple):
    """What a reader keeps of a record."""

    number: int
    timestamp: int


class Stream:
    """A producer of numbered messages with acks=all. One thread uses it at a time."""

    def __init__(self, bootstrap: str, topic: str, partitions: int = 1, idempotent: bool = True, **settings):
        self.topic = topic
        self.partitions = partitions
        self.idempotent = idempotent
        # By partition: how many were sent, and what the acknowledgement of a number said (offset, timestamp).
        self.sent = [0] * partitions
        self.acknowledged: list[dict[int, tuple[int, int]]] = [{} for _ in range(partitions)]
        self.errors = []
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": idempotent,
                # Without sequence numbers, only one request at a time keeps the order over a retry.
                "max.in.flight.requests.per.connection": 5 if idempotent else 1,
                "linger.ms": 2,
                "batch.num.messages": 50,
                "message.timeout.ms": 300_000,
                **PERSISTENT,
                **settings,
            }
        )

    def send(self, partition: int = 0, padding: int = 0) -> None:
        """Sends the partition's next number, with so many bytes behind it."""
        number = self.sent[partition]
        # First, since another thread that reads the book never finds more in the log than was sent.
        self.sent[partition] += 1
        self.producer.produce(
            self.topic, b"%d:%s" % (number, b"x" * padding), partition=partition, on_delivery=self._delivered
        )
        self.producer.poll(0)

    def send_some(self, rng, count: int) -> None:
        """Sends `count` messages of up to 2,000 bytes to partitions drawn from `rng`."""
        for _ in range(count):
            self.send(rng.randrange(self.partitions), rng.randrange(2000))

    def count_acknowledged(self) -> int:
        """How many messages are acknowledged in all partitions."""
        return sum(map(len, self.acknowledged))

    def wait_acknowledged(self, count: int) -> None:
        """Returns when `count` messages in all are acknowledged."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.count_acknowledged() < count:
            self.producer.poll(0.01)
            assert not self.errors, self.errors[:3]
            assert time.monotonic() < deadline, f"only {self.count_acknowledged()} of {count} are acknowledged"

    def flush(self) -> None:
        """Waits until everything sent is acknowledged."""
        self.wait_acknowledged(sum(self.sent))

    def end(self, partition: int = 0) -> int:
        """The offset behind everything that is acknowledged."""
        # A copy: the thread that sends goes on meanwhile.
        return max((offset + 1 for offset, _ in list(self.acknowledged[partition].values())), default=0)

    def _delivered(self, error, message: Message) -> None:
        if error:
            self.errors.append(error)
            return
        number = int(message.value().split(b":", 1)[0])
        self.acknowledged[message.partition()][number] = (message.offset(), message.timestamp()[1])

    def check(self, records: list[list[Read]]) -> None:
        """`records`, by partition and offset, hold everything acknowledged where it was acknowledged, in order.

        Without idempotence a batch whose acknowledgement was lost is there twice: the numbers then go back, and come
        again from there.
        """
        for partition, read in enumerate(records):
            where = f"{self.topic}, partition {partition}"
            numbers = [record.number for record in read]
            if self.idempotent:
                assert numbers == list(range(len(numbers))), f"{where}: lost, doubled or out of order"
            highest = -1
            for offset, number in enumerate(numbers):
                assert number <= highest + 1, f"{where}: {number} at offset {offset} follows {highest}"
                highest = max(highest, number)
            for number, (offset, _) in self.acknowledged[partition].items():
                assert offset < len(numbers), f"{where}: {number} was acknowledged at offset {offset} and is not there"
                found = numbers[offset]
                assert found == number, f"{where}: {number} was acknowledged at offset {offset}, there is {found}"


class Reader:
    """Reads a topic's partitions from their first offset on and remembers everything."""

    def __init__(self, bootstrap: str, topic: str, partitions: int = 1, group: str | None = None):
        self.topic = topic
        self.group = group or new_group()
        self.records: list[list[Read]] = [[] for _ in range(partitions)]
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": self.group,
                "auto.offset.reset": "error",
                "enable.auto.commit": False,
                **PERSISTENT,
            }
        )
        self.consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])

    def read_to(self, ends: list[int]) -> None:
        """Reads on until everything below `ends` is read. Offsets have no holes, also across calls."""
        deadline = time.monotonic() + TIMEOUT_S
        while any(len(read) < end for read, end in zip(self.records, ends)):
            for message in self.consumer.consume(1000, 0.2):
                if message.error():
                    raise KafkaException(message.error())
                read = self.records[message.partition()]
                assert message.offset() == len(read), (
                    f"{self.topic}, partition {message.partition()}: "
                    f"offset {message.offset()} where {len(read)} was due"
                )
                read.append(Read(int(message.value().split(b":", 1)[0]), message.timestamp()[1]))
            have = [len(read) for read in self.records]
            assert time.monotonic() < deadline, f"{self.topic}: read to {have}, acknowledged to {ends}"

    def commit(self, offsets: list[int] | None = None) -> list[int]:
        """Commits `offsets`, by partition, or what was read; returns it once it is acknowledged."""
        offsets = offsets or [len(read) for read in self.records]
        places = [TopicPartition(self.topic, partition, offset) for partition, offset in enumerate(offsets)]
        for place in self.consumer.commit(offsets=places, asynchronous=False):
            if place.error:
                raise KafkaException(place.error)
        return offsets

    def committed(self) -> list[int]:
        """The group's committed offsets by partition."""
        places = [TopicPartition(self.topic, partition) for partition in range(len(self.records))]
        return [place.offset for place in self.consumer.committed(places, TIMEOUT_S)]

    def close(self) -> None:
        """Closes the consumer."""
        self.consumer.close()


def read_all(bootstrap: str, stream: Stream) -> list[list[Read]]:
    """What a new consumer reads of what the stream had acknowledged, by partition."""
    reader = Reader(bootstrap, stream.topic, stream.partitions)
    try:
        reader.read_to([stream.end(partition) for partition in range(stream.partitions)])
    finally:
        reader.close()
    return reader.records
