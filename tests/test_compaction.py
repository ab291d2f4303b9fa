"""Compacted topics: of every key the latest record stays, at its offset, whatever happens meanwhile.

A topic is known to be compacted by what a consumer reads of it: that is the same for both brokers. The last record of
each topic here is one that closes the segment before it, since the segment that is written to is never compacted.
"""

import re
import time

import pytest
import requests
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from harness.admin import TIMEOUT_S, admin, create_topic
from harness.broker import wait_until
from harness.clients import CODECS, new_group

# Looked at ten times a second, so that nobody waits for the usual 15 s.
SETTINGS = {"log.cleaner.backoff.ms": 100}
COMPACTED = {
    "cleanup.policy": "compact",
    # Kafka takes no less.
    "segment.bytes": 1 << 20,
    "min.cleanable.dirty.ratio": 0.01,
    "delete.retention.ms": 3_600_000,
}
VALUE_BYTES = 2000


@pytest.fixture(scope="module")
def compacting(broker_kind, tmp_path_factory):
    """A broker that looks for dirty logs all the time."""
    broker = broker_kind(tmp_path_factory.mktemp("compacting"), SETTINGS).start()
    yield broker
    broker.discard()


class Table:
    """A topic with one partition, what was sent to it, and the latest of each key."""

    def __init__(self, bootstrap: str, topic: str, codec: str = "none", idempotent: bool = True):
        self.topic = topic
        self.latest: dict[bytes, tuple[int, bytes | None]] = {}
        self.sent: dict[int, tuple[bytes, bytes | None]] = {}
        self.end = 0
        self.producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 5,
                                  "enable.idempotence": idempotent, "batch.num.messages": 20})  # fmt: skip

    def put(self, key: bytes, value: bytes | None) -> None:
        """Sends a record; a null value deletes the key."""

        def delivered(error, message):
            assert error is None, error
            self.sent[message.offset()] = (message.key(), message.value())
            self.latest[message.key()] = max(
                (message.offset(), message.value()), self.latest.get(message.key(), (-1, None)), key=lambda it: it[0]
            )
            self.end = max(self.end, message.offset() + 1)

        self.producer.produce(self.topic, value, key, on_delivery=delivered)
        self.producer.poll(0)

    def update(self, rng, count: int, keys: int, deletions: float = 0.1) -> None:
        """Sends updates of random keys and waits until all are acknowledged."""
        for number in range(count):
            value = b"%d " % number + rng.randbytes(VALUE_BYTES)
            self.put(b"key-%d" % rng.randrange(keys), None if rng.random() < deletions else value)
        assert self.producer.flush(TIMEOUT_S) == 0

    def roll(self, rng) -> None:
        """Sends records of one more key until the segments before them are closed."""
        for _ in range(12):
            self.put(b"filler", rng.randbytes(100_000))
        assert self.producer.flush(TIMEOUT_S) == 0


def read(bootstrap: str, topic: str, end: int, offset: int = 0) -> list[tuple[int, bytes, bytes | None]]:
    """The records from an offset on, in the order they come, up to the end."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": new_group(), "enable.partition.eof": True,
                         "auto.offset.reset": "error"})  # fmt: skip
    consumer.assign([TopicPartition(topic, 0, offset)])
    records = []
    try:
        while True:
            message = consumer.poll(TIMEOUT_S)
            assert message is not None, f"neither a record nor the end after {records[-1:]}"
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                if message.offset() >= end:
                    return records
            else:
                records.append((message.offset(), message.key(), message.value()))
    finally:
        consumer.close()


def check(table: Table, records) -> None:
    """What was read is what was sent, in order, with the latest of every key among it."""
    offsets = [offset for offset, _, _ in records]
    assert offsets == sorted(set(offsets))
    for offset, key, value in records:
        assert table.sent[offset] == (key, value), offset
    latest = {key: (offset, value) for offset, key, value in records}
    assert latest == table.latest


def wait_compacted(broker, table: Table, records_max: int) -> list:
    """Reads until no more than so many records are left, and checks each time."""

    def compacted():
        records = read(broker.bootstrap, table.topic, table.end)
        check(table, records)
        return records if len(records) <= records_max else None

    return wait_until(compacted, f"at most {records_max} records are left", 60, 0.2)


@pytest.mark.parametrize("codec", CODECS)
def test_the_latest_of_every_key_stays(compacting, topic, rng, codec):
    """Updates and deletions of a hundred keys: what is left is their latest, at the offsets that they had."""
    create_topic(compacting.bootstrap, topic, 1, COMPACTED)
    table = Table(compacting.bootstrap, topic, codec, idempotent=codec != "gzip")
    table.update(rng, 2000, 100)
    table.roll(rng)
    # A hundred keys, and what is in the segment that is written to.
    records = wait_compacted(compacting, table, 200)
    # An offset that is gone: the next record that there is.
    there = {offset for offset, _, _ in records}
    gone = next(offset for offset in range(table.end) if offset not in there)
    following = next(record for record in records if record[0] > gone)
    assert read(compacting.bootstrap, topic, table.end, gone)[0] == following


def test_times_and_offsets_after_compaction(compacting, topic, rng):
    """ListOffsets answers of records that are there; first and end offset stay."""
    create_topic(compacting.bootstrap, topic, 1, COMPACTED)
    table = Table(compacting.bootstrap, topic)
    table.update(rng, 1000, 10)
    middle_ms = int(time.time() * 1000) + 1
    wait_until(lambda: time.time() * 1000 > middle_ms + 50, "the clock goes on", 5, 0.01)
    table.update(rng, 1000, 10)
    table.roll(rng)
    records = wait_compacted(compacting, table, 100)
    client = admin(compacting.bootstrap)

    def offset_of(spec):
        partition = TopicPartition(topic, 0)
        return client.list_offsets({partition: spec})[partition].result(TIMEOUT_S).offset

    assert offset_of(OffsetSpec.earliest()) == 0
    assert offset_of(OffsetSpec.latest()) == table.end
    found = offset_of(OffsetSpec.for_timestamp(middle_ms))
    assert found in {offset for offset, _, _ in records} and found >= 1000


def test_records_without_a_key_are_refused(compacting, topic):
    """INVALID_RECORD, compressed or not, and nothing of the batch is stored."""
    create_topic(compacting.bootstrap, topic, 1, COMPACTED)
    for codec in CODECS:
        errors = []
        producer = Producer({"bootstrap.servers": compacting.bootstrap, "compression.type": codec, "linger.ms": 50})
        producer.produce(topic, b"value " * 100, None, on_delivery=lambda error, _, into=errors: into.append(error))
        assert producer.flush(TIMEOUT_S) == 0
        assert [error.code() for error in errors] == [KafkaError.INVALID_RECORD], codec
    assert read(compacting.bootstrap, topic, 0) == []


def metric(broker, name: str) -> float:
    """The value of one of compaction's metrics."""
    text = requests.get(f"{broker.http}/metrics", timeout=TIMEOUT_S).text
    return float(re.search(rf"^highwater_compaction_{name} (\S+)$", text, re.MULTILINE)[1])


@pytest.mark.highwater_only("the metrics are Highwater's")
def test_metrics_and_small_budgets(start_broker, topic, rng):
    """Passes show in the metrics; verify finds nothing wrong with what they leave."""
    broker = start_broker({**SETTINGS, "log.cleaner.dedupe.buffer.size": 1 << 20})
    create_topic(broker.bootstrap, topic, 1, COMPACTED)
    table = Table(broker.bootstrap, topic)
    table.update(rng, 1500, 50)
    table.roll(rng)
    wait_compacted(broker, table, 200)
    # What was read may have been put in place by a pass that has not ended yet.
    wait_until(lambda: metric(broker, "passes_total") >= 1, "a pass has ended")
    assert metric(broker, "removed_bytes_total") > 1 << 20
    assert metric(broker, "uncleanable_partitions") == 0
    broker.stop()
    broker.cli("verify", "--data-dir", broker.data_dir)
    broker.start()
    check(table, read(broker.bootstrap, topic, table.end))


@pytest.mark.timeout(300)
def test_killed_while_compacting(start_broker, topic, rng, request):
    """kill -9 again and again under a broker that does nothing but compact; the latest of every key is always there."""
    print(f"seed: --seed {request.config.getoption('--seed')}")
    # Slow enough that a kill finds a pass under way.
    broker = start_broker({**SETTINGS, "log.cleaner.io.max.bytes.per.second": 4 << 20})
    create_topic(broker.bootstrap, topic, 1, COMPACTED)
    table = Table(broker.bootstrap, topic)
    for _ in range(6):
        table.update(rng, 800, 60)
        time.sleep(rng.random())
        broker.kill()
        broker.start()
        check(table, read(broker.bootstrap, topic, table.end))
    table.roll(rng)
    wait_compacted(broker, table, 300)
