"""The flights of 2013 through every producer and every consumer, exactly.

What is in a topic is read once from the first offset by confluent-kafka and held against the events themselves; what
each consumer reads from an offset or from a time is then held against that.
"""

import subprocess
import threading
from bisect import bisect_left
from collections import Counter

import confluent_kafka
import kafka
import pytest
from confluent_kafka import TopicPartition

from harness import clients, flights
from harness.admin import create_topic
from harness.broker import end_with_parent, wait_until
from harness.clients import confluent_record, kafka_python_record
from harness.highwater_cli import highwater_consume, highwater_produce
from harness.records import Record, assert_contiguous, by_partition

CONSUME_TIMEOUT_S = 120
JULY = 1_372_636_800_000  # 2013-07-01T00:00:00Z


def confluent_produce(broker, topic, codec):
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": broker.bootstrap, "compression.type": codec, "acks": "all",
         "queue.buffering.max.messages": 500_000}
    )  # fmt: skip
    errors = []
    for flight in flights.load():
        producer.produce(
            topic, flight.value, flight.key, timestamp=flight.timestamp,
            on_delivery=lambda error, _: error and errors.append(error),
        )  # fmt: skip
        producer.poll(0)
    assert producer.flush(CONSUME_TIMEOUT_S) == 0 and not errors, errors[:3]


def kcat_produce(broker, topic, codec):
    """kcat cannot set timestamps: its records carry the time at which they were sent."""
    lines = b"".join(b"%s\t%s\n" % (flight.key, flight.value) for flight in flights.load())
    result = subprocess.run(
        ["kcat", "-P", "-E", "-b", broker.bootstrap, "-t", topic, "-K", "\t", "-z", codec, "-X", "acks=all"],
        input=lines, capture_output=True, timeout=CONSUME_TIMEOUT_S, preexec_fn=end_with_parent,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr.decode()


PRODUCERS = {"confluent-kafka": confluent_produce, "kcat": kcat_produce, "highwater": highwater_produce}


def confluent_read(broker, topic, starts: dict[int, int], ends: dict[int, int]) -> list[Record]:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap, "group.id": clients.new_group()})
    consumer.assign([TopicPartition(topic, p, start) for p, start in starts.items() if start < ends[p]])
    left = sum(ends[p] - start for p, start in starts.items())
    records = []
    while left > 0:
        batch = consumer.consume(min(left, 50_000), CONSUME_TIMEOUT_S)
        assert batch, f"{left} records are missing"
        records += map(confluent_record, batch)
        left -= len(batch)
    consumer.close()
    return records


def kafka_python_read(broker, topic, starts, ends) -> list[Record]:
    consumer = kafka.KafkaConsumer(bootstrap_servers=broker.bootstrap, max_poll_records=50_000)
    consumer.assign([kafka.TopicPartition(topic, p) for p, start in starts.items() if start < ends[p]])
    for p in consumer.assignment():
        consumer.seek(p, starts[p.partition])
    left = sum(ends[p] - start for p, start in starts.items())
    records = []
    while left > 0:
        polled = consumer.poll(CONSUME_TIMEOUT_S * 1000)
        assert polled, f"{left} records are missing"
        for messages in polled.values():
            records += map(kafka_python_record, messages)
            left -= len(messages)
    consumer.close()
    return records


def confluent_offsets_at(broker, topic, time_ms) -> dict[int, int]:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap, "group.id": clients.new_group()})
    found = consumer.offsets_for_times([TopicPartition(topic, p, time_ms) for p in range(flights.PARTITIONS)], 30)
    consumer.close()
    return {p.partition: p.offset for p in found}


def kafka_python_offsets_at(broker, topic, time_ms) -> dict[int, int]:
    consumer = kafka.KafkaConsumer(bootstrap_servers=broker.bootstrap)
    asked = {kafka.TopicPartition(topic, p): time_ms for p in range(flights.PARTITIONS)}
    found = consumer.offsets_for_times(asked)
    consumer.close()
    return {p.partition: -1 if at is None else at.offset for p, at in found.items()}


READERS = {"confluent-kafka": (confluent_read, confluent_offsets_at),
           "kafka-python": (kafka_python_read, kafka_python_offsets_at)}  # fmt: skip


class Loaded:
    """A topic with the flights in it, as it was read back and checked."""

    def __init__(self, topic: str, records: list[Record]):
        self.topic = topic
        self.records = records
        self.partitions = {p: [] for p in range(flights.PARTITIONS)} | by_partition(records)
        self.ends = {p: len(read) for p, read in self.partitions.items()}

    def tail(self, starts: dict[int, int]) -> dict[int, list[Record]]:
        """What a read from these offsets has to bring; partitions that have nothing are left out."""
        return {p: read[starts[p] :] for p, read in self.partitions.items() if read[starts[p] :]}

    def offsets_at(self, time_ms: int) -> dict[int, int]:
        """For each partition the first offset whose record is not older, -1 for none."""
        found = {}
        for p, read in self.partitions.items():
            at = bisect_left(read, time_ms, key=lambda record: record.timestamp)
            found[p] = at if at < len(read) else -1
        return found


@pytest.fixture(scope="module")
def loaded_topics():
    """The topics that are loaded already, by producer and codec."""
    return {}


@pytest.fixture(params=[f"{producer}-{codec}" for producer in PRODUCERS for codec in ("none", "zstd")])
def loaded(request, broker, loaded_topics) -> Loaded:
    """A topic that this producer filled with this codec; filled and checked once."""
    name = request.param
    if name not in loaded_topics:
        producer, codec = name.rsplit("-", 1)
        if producer == "highwater" and broker.kind != "highwater":
            pytest.skip("needs the binary")
        topic = f"flights-{name}"
        create_topic(broker.bootstrap, topic, flights.PARTITIONS, {"retention.ms": -1})
        PRODUCERS[producer](broker, topic, codec)
        ends = {p.partition: p.offset for p in high_watermarks(broker, topic)}
        records = confluent_read(broker, topic, {p: 0 for p in ends}, ends)
        assert_contiguous(records)
        flights.assert_all(records, timestamps=producer != "kcat")
        loaded_topics[name] = Loaded(topic, records)
    return loaded_topics[name]


def high_watermarks(broker, topic) -> list[TopicPartition]:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap, "group.id": clients.new_group()})
    partitions = [TopicPartition(topic, p) for p in range(flights.PARTITIONS)]
    for partition in partitions:
        partition.offset = consumer.get_watermark_offsets(partition, 30)[1]
    consumer.close()
    return partitions


def test_arrives_exactly(loaded):
    """confluent-kafka reads back exactly the events, from the first offset."""
    assert len(loaded.records) == flights.COUNT


@pytest.mark.parametrize("reader", READERS)
def test_from_first(broker, loaded, reader):
    """Every event, by this consumer."""
    read, _ = READERS[reader]
    records = read(broker, loaded.topic, {p: 0 for p in loaded.ends}, loaded.ends)
    assert by_partition(records) == loaded.tail({p: 0 for p in loaded.ends})


@pytest.mark.parametrize("reader", READERS)
def test_from_offset(broker, loaded, reader, rng):
    """From a given offset in each partition: exactly what lies behind it."""
    read, _ = READERS[reader]
    starts = {p: rng.randrange(end * 9 // 10, end + 1) for p, end in loaded.ends.items()}
    assert by_partition(read(broker, loaded.topic, starts, loaded.ends)) == loaded.tail(starts)


@pytest.mark.parametrize("reader", READERS)
def test_from_time(broker, loaded, reader, rng):
    """From a given time: the right offset in each partition, and exactly what lies behind it."""
    read, offsets_at = READERS[reader]
    time_ms = rng.choice(loaded.records).timestamp
    if time_ms < 1_400_000_000_000:  # stamped with 2013
        time_ms = JULY
    found = offsets_at(broker, loaded.topic, time_ms)
    assert found == loaded.offsets_at(time_ms)
    starts = {p: loaded.ends[p] if offset == -1 else offset for p, offset in found.items()}
    assert by_partition(read(broker, loaded.topic, starts, loaded.ends)) == loaded.tail(starts)


@pytest.mark.highwater_only("the binary's own consumer")
@pytest.mark.parametrize("start", ["first", "offset", "time"])
def test_highwater_consume(broker, loaded, start, rng):
    """`highwater consume` from first, from an offset and from a time."""
    if start == "first":
        records = highwater_consume(broker, loaded.topic, "--from", "first")
        assert by_partition(records) == loaded.tail({p: 0 for p in loaded.ends})
    elif start == "offset":
        partition = max(loaded.ends, key=loaded.ends.get)
        offset = rng.randrange(loaded.ends[partition])
        records = highwater_consume(broker, loaded.topic, "--partition", partition, "--from", offset)
        assert records == loaded.partitions[partition][offset:]
    else:
        time_ms = min(JULY, loaded.records[len(loaded.records) // 2].timestamp)
        if loaded.records[0].timestamp > JULY:
            time_ms = loaded.records[len(loaded.records) // 2].timestamp
        records = highwater_consume(broker, loaded.topic, "--from", f"@{time_ms}")
        starts = {p: loaded.ends[p] if o == -1 else o for p, o in loaded.offsets_at(time_ms).items()}
        assert by_partition(records) == loaded.tail(starts)


class Member(threading.Thread):
    """A member of a group that counts what it gets and commits it before a partition is taken away.

    It works on while its share of the work allows, so that a test decides when members join and leave.
    """

    def __init__(self, broker, topic, group, strategy):
        super().__init__(daemon=True)
        self.records: list[Record] = []
        self.failure: BaseException | None = None
        self.assigned = False
        self.hold = threading.Event()
        self.leave = threading.Event()
        self._topic = topic
        self._cooperative = strategy == "cooperative-sticky"
        self._settings = {
            "bootstrap.servers": broker.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "partition.assignment.strategy": strategy,
            "heartbeat.interval.ms": 200,
            # Bounds what is prefetched, so that a member cannot have everything before another one joins.
            "queued.max.messages.kbytes": 1024,
            "fetch.message.max.bytes": 65536,
        }
        self._next: dict[int, int] = {}

    def run(self):
        consumer = confluent_kafka.Consumer(self._settings)
        try:
            consumer.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
            while not self.leave.is_set():
                if self.hold.is_set():
                    # Without the calls of a poll no rebalance would be served: poll paused partitions.
                    consumer.pause(consumer.assignment())
                    message = consumer.poll(0.05)
                    batch = [message] if message else []
                else:
                    consumer.resume(consumer.assignment())
                    batch = consumer.consume(500, 0.05)
                for message in batch:
                    record = confluent_record(message)
                    self.records.append(record)
                    self._next[record.partition] = record.offset + 1
            self._commit(consumer, list(self._next))
        except BaseException as failure:  # handed to the test, which raises it
            self.failure = failure
        finally:
            consumer.close()

    def _on_assign(self, consumer, partitions):
        for partition in partitions:
            self._next.pop(partition.partition, None)
        if self._cooperative:
            consumer.incremental_assign(partitions)
        else:
            consumer.assign(partitions)
        self.assigned = self.assigned or bool(partitions)

    def _on_revoke(self, consumer, partitions):
        self._commit(consumer, [partition.partition for partition in partitions])

    def _commit(self, consumer, partitions):
        offsets = [TopicPartition(self._topic, p, self._next.pop(p)) for p in partitions if p in self._next]
        if offsets:
            consumer.commit(offsets=offsets, asynchronous=False)


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_two_members_share(broker, loaded_topics, strategy):
    """A member joins in the middle and leaves again: nothing is missed and nothing comes twice."""
    topic = f"flights-group-{strategy}"
    create_topic(broker.bootstrap, topic, flights.PARTITIONS, {"retention.ms": -1})
    confluent_produce(broker, topic, "zstd")
    group = clients.new_group()
    first = Member(broker, topic, group, strategy)
    second = Member(broker, topic, group, strategy)

    def count() -> int:
        for member in (first, second):
            if member.failure:
                raise member.failure
        return len(first.records) + len(second.records)

    first.start()
    wait_until(lambda: count() > 30_000, "the first member reads", 60)
    first.hold.set()
    second.start()
    wait_until(lambda: count() and second.assigned, "the second member has partitions", 60)
    first.hold.clear()
    wait_until(lambda: count() and len(second.records) > 20_000, "the second member reads", 60)
    second.leave.set()
    second.join(60)
    wait_until(lambda: count() >= flights.COUNT, "all events are read", 120)
    first.leave.set()
    first.join(60)
    assert count() == flights.COUNT
    places = Counter((r.partition, r.offset) for r in first.records + second.records)
    assert max(places.values()) == 1, "a record came twice"
    # Each member's records are in order of offset; put together by place they must be the events.
    for member in (first, second):
        for read in by_partition(member.records).values():
            assert [r.offset for r in read] == sorted(r.offset for r in read)
    records = sorted(first.records + second.records, key=lambda r: (r.partition, r.offset))
    assert_contiguous(records)
    flights.assert_all(records)
