"""Compacted topics: of every key the latest record stays, at its offset, whatever happens meanwhile.

A topic is known to be compacted by what a consumer reads of it: that is the same for both brokers. The last record of
each topic here is one that closes the segment before it, since the segment that is written to is never compacted.
"""

import re
import threading
import time

import pytest
import requests
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, OffsetSpec, ResourceType

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
    wait_until(lambda: metric(broker, "removed_bytes_total") > 1 << 20, "passes have removed what was read no more")
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


class Load(threading.Thread):
    """Updates a table until it is told to stop, a few acknowledged records after the other."""

    KEYS = 20

    def __init__(self, table: Table, rng):
        super().__init__(daemon=True)
        self.table = table
        self.rng = rng
        self.stopping = threading.Event()
        # Held to have it pause: a reader comes to no end of a log that grows faster than it asks.
        self.pause = threading.Lock()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Runs as the thread."""
        try:
            while not self.stopping.wait(0.01):
                with self.pause:
                    self.table.update(self.rng, 20, self.KEYS)
        except BaseException as error:  # The test has to learn of it.
            self.error = error

    def wait_past(self, offset: int) -> None:
        """Returns when everything below `offset` is acknowledged."""

        def is_past():
            assert self.error is None, self.error
            return self.table.end >= offset

        wait_until(is_past, f"everything below {offset} is acknowledged", 60)

    def wait_rolled(self) -> None:
        """Returns when so much has been sent that the segment that was written to is closed, and the one after it."""
        segment = COMPACTED["segment.bytes"] // VALUE_BYTES
        self.wait_past(self.table.end + 3 * segment)

    def stop(self) -> None:
        """Ends the thread, with everything acknowledged."""
        self.stopping.set()
        self.join(60)
        assert not self.is_alive() and self.error is None, self.error


def alter(broker, topic: str, **settings) -> None:
    """Sets what is given of a topic's settings, with `_` for `.`, and returns when they act."""
    entry = lambda name, value: ConfigEntry(  # noqa: E731
        name.replace("_", "."), str(value), incremental_operation=AlterConfigOpType.SET
    )
    entries = [entry(name, value) for name, value in settings.items()]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    client = admin(broker.bootstrap)
    client.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)
    # Kafka's broker takes what has changed in the order in which it did: who sees the topic sees the settings.
    create_topic(broker.bootstrap, f"after-{topic}-{time.monotonic_ns()}", 1)


def check_under_load(broker, load: Load, offset: int = 0) -> list:
    """Reads what is there from an offset on: nothing but what was sent, and the latest of what had been acknowledged."""
    table = load.table
    with load.pause:
        acknowledged = dict(table.latest)
        records = read(broker.bootstrap, table.topic, table.end, offset)
    load.wait_past(records[-1][0] + 1)
    assert [offset for offset, _, _ in records] == sorted({offset for offset, _, _ in records})
    assert all(table.sent[offset] == (key, value) for offset, key, value in records)
    latest = {key: offset for offset, key, _ in records}
    for key, (sent_at, _) in acknowledged.items():
        assert sent_at < offset or latest.get(key, -1) >= sent_at, key
    return records


def test_the_policy_changes_under_load(start_broker, topic, rng):
    """delete, compact, both, and delete again, over restarts, while a client goes on writing.

    Without compaction nothing but the oldest goes, with it the latest of every key stays, and what it was turned off
    for stays from then on.
    """
    broker = start_broker({**SETTINGS, "log.retention.check.interval.ms": 100})
    create_topic(broker.bootstrap, topic, 1, {**COMPACTED, "cleanup.policy": "delete", "retention.ms": -1})
    load = Load(Table(broker.bootstrap, topic), rng)
    load.start()

    def offsets(start: int) -> list[int]:
        return [offset for offset, _, _ in check_under_load(broker, load, start)]

    def restart() -> None:
        broker.stop()
        broker.start()

    load.wait_rolled()
    there = offsets(0)
    assert there == list(range(len(there))), "nothing is compacted"

    alter(broker, topic, cleanup_policy="compact")
    # All of it would be compacted if it were not written to: of what was there a part is left at most.
    compacted = lambda end: wait_until(  # noqa: E731
        lambda: sum(offset < end for offset in offsets(0)) <= 2 * Load.KEYS, f"the log is compacted up to {end}", 60
    )
    compacted(len(there))
    restart()
    end = load.table.end
    load.wait_rolled()
    compacted(end)

    alter(broker, topic, cleanup_policy="compact,delete", retention_bytes=1)

    def log_start() -> int:
        # A client of its own: what an older one knows of the leader is not so any more after a restart.
        consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": new_group()})
        start, _ = consumer.get_watermark_offsets(TopicPartition(topic, 0), TIMEOUT_S)
        consumer.close()
        return start

    wait_until(lambda: log_start() > end, "the oldest segments go", 60)
    alter(broker, topic, cleanup_policy="delete", retention_bytes=-1)
    kept_from = load.table.end
    restart()
    load.wait_rolled()
    load.wait_rolled()
    kept = offsets(kept_from)
    assert kept == list(range(kept_from, kept[-1] + 1)), "nothing is compacted any more"
    load.stop()
    oldest = log_start()
    assert end < oldest <= kept_from
    check_under_load(broker, load, oldest)
