"""What a group is behind by: in records and in seconds, from the JSON API, the metrics and `highwater lag`."""

import os
import re
import threading
import time

import pytest
import requests
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka import KafkaAdminClient
from kafka import TopicPartition as KafkaPythonPartition

from harness.admin import TIMEOUT_S, admin, create_topic
from harness.clients import new_group
from harness.lag import OVER_HTTP, SOURCES, json_lag, metrics_lag
from harness.ledger import Reader, Stream

# How long the consumer pauses.
PAUSE_S = float(os.environ.get("HIGHWATER_LAG_PAUSE_S", "30"))

# Between the clocks' readings and what is told with one digit.
TOLERANCE_S = 1.0

pytestmark = pytest.mark.highwater_only("lag is Highwater's")


class Load:
    """A steady load of a hundred records a second and partition, on a thread of its own."""

    def __init__(self, stream: Stream):
        self.stream = stream
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Load":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the load; everything sent is acknowledged afterwards."""
        if not self.stopped.is_set():
            self.stopped.set()
            self.thread.join()
            self.stream.flush()

    def _run(self) -> None:
        while not self.stopped.wait(0.01):
            for partition in range(self.stream.partitions):
                self.stream.send(partition, padding=100)


def check_lag(broker, stream: Stream, group: str, committed: list[int], source) -> list[tuple[int, float]]:
    """One source says for each partition what the stream's book says, within what changed while it was asked."""
    acknowledged = [len(numbers) for numbers in stream.acknowledged]
    before = time.time()
    lag = source(broker, group)
    after = time.time()
    sent = list(stream.sent)
    assert set(lag) == {(stream.topic, partition) for partition in range(stream.partitions)}
    told = []
    for partition, offset in enumerate(committed):
        records, seconds = lag[stream.topic, partition]
        # Between a read of the book and the answer, records come in; none goes.
        assert acknowledged[partition] - offset <= records <= sent[partition] - offset
        # Offsets are numbers here: the topic is the stream's alone, and its producer is idempotent.
        _, timestamp = stream.acknowledged[partition].get(offset, (None, None))
        if timestamp is None:
            assert seconds <= TOLERANCE_S + after - before
        else:
            oldest, newest = before - timestamp / 1000, after - timestamp / 1000
            assert oldest - TOLERANCE_S <= seconds <= newest + TOLERANCE_S
        told.append((records, seconds))
    return told


def test_a_paused_consumer(start_broker, topic):
    """A consumer pauses under steady load: lag grows by a second a second; caught up, it is 0 everywhere."""
    broker = start_broker()
    create_topic(broker.bootstrap, topic, 2)
    stream = Stream(broker.bootstrap, topic, 2)
    reader = Reader(broker.bootstrap, topic, 2)
    with Load(stream) as load:
        for _ in range(3):
            time.sleep(0.3)
            reader.read_to([stream.end(0), stream.end(1)])
            committed = reader.commit()
        for source in SOURCES:
            check_lag(broker, stream, reader.group, committed, source)
        time.sleep(PAUSE_S)
        for source in SOURCES:
            for records, seconds in check_lag(broker, stream, reader.group, committed, source):
                assert seconds >= PAUSE_S - TOLERANCE_S
                assert records > 0
        load.stop()
    # The load has ended, so the count of records is exact; the age goes on.
    exact = [len(stream.acknowledged[partition]) - committed[partition] for partition in range(2)]
    for source in SOURCES:
        told = check_lag(broker, stream, reader.group, committed, source)
        assert [records for records, _ in told] == exact
    reader.read_to([stream.end(0), stream.end(1)])
    halfway = [offset + (end - offset) // 2 for offset, end in zip(committed, stream.sent)]
    for offsets in (halfway, stream.sent):
        reader.commit(offsets)
        for source in SOURCES:
            check_lag(broker, stream, reader.group, offsets, source)
    nothing = {(topic, 0): (0, 0.0), (topic, 1): (0, 0.0)}
    for source in SOURCES:
        assert source(broker, reader.group) == nothing
    broker.kill()
    broker.start()
    for source in SOURCES:
        assert source(broker, reader.group) == nothing, "after a restart"
    reader.close()


def commit(broker, group: str, topic: str, offset: int) -> None:
    """Commits an offset for a group without members."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group, "enable.auto.commit": False})
    (place,) = consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    assert not place.error
    consumer.close()


def produce(broker, topic: str, count: int, timestamp: int = 0) -> None:
    """Writes `count` records of one timestamp; 0 is now."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "linger.ms": 5})
    errors = []
    for number in range(count):
        producer.produce(
            topic, b"%d:" % number, partition=0, timestamp=timestamp,
            on_delivery=lambda error, _: error and errors.append(error),
        )  # fmt: skip
    assert producer.flush(TIMEOUT_S) == 0 and not errors, errors


def test_table(broker, topic):
    """What a person sees: a line for each partition, of all groups or of those named, or one for each group."""
    create_topic(broker.bootstrap, topic)
    produce(broker, topic, 10)
    groups = sorted(new_group() for _ in range(2))
    for group in groups:
        commit(broker, group, topic, 4)

    def lines(*arguments) -> list[list[bytes]]:
        shown = broker.cli("lag", *arguments, "--bootstrap", broker.bootstrap).stdout
        rows = [re.findall(rb"[\w.-]+", line) for line in shown.splitlines()]
        return [row for row in rows if row and row[0].decode() in groups]

    for arguments in ([], groups, ["--topic", topic]):
        assert [row[:6] for row in lines(*arguments)] == [
            [group.encode(), topic.encode(), b"0", b"4", b"10", b"6"] for group in groups
        ]
    assert [row[:3] for row in lines("--summary")] == [[group.encode(), b"1", b"6"] for group in groups]


def test_unknown_group(broker):
    """A group that nobody knows is 404 and says so."""
    answer = requests.get(f"{broker.http}/api/v1/groups/{new_group()}/lag", timeout=30)
    assert answer.status_code == 404
    assert "no group" in answer.json()["error"]


def test_group_without_commits(broker, topic):
    """A group with a member and nothing committed exists and has no lag to tell."""
    create_topic(broker.bootstrap, topic)
    produce(broker, topic, 10)
    group = new_group()
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": group, "enable.auto.commit": False,
         "auto.offset.reset": "earliest"}
    )  # fmt: skip
    consumer.subscribe([topic])
    assert consumer.poll(TIMEOUT_S).value() == b"0:"
    for source in OVER_HTTP:
        assert source(broker, group) == {}
    shown = broker.cli("lag", group, "--bootstrap", broker.bootstrap, check=False)
    assert shown.returncode != 0 and b"committed nothing" in shown.stderr
    groups = requests.get(f"{broker.http}/api/v1/groups", timeout=30).json()["groups"]
    assert group in [entry["group"] for entry in groups]
    consumer.close()


def test_deleted_offsets_and_group(broker, topic):
    """Lag goes with the offsets; the group goes with DeleteGroups."""
    create_topic(broker.bootstrap, topic)
    produce(broker, topic, 10)
    kept, deleted = new_group(), new_group()
    for group in (kept, deleted):
        commit(broker, group, topic, 4)
        assert json_lag(broker, group)[topic, 0][0] == 6
    admin(broker.bootstrap).delete_consumer_groups([deleted])[deleted].result(TIMEOUT_S)
    assert requests.get(f"{broker.http}/api/v1/groups/{deleted}/lag", timeout=30).status_code == 404
    assert metrics_lag(broker, deleted) == {}
    for source in SOURCES:
        assert source(broker, kept)[topic, 0][0] == 6


def test_deleted_topic(broker, topic):
    """A topic that is deleted takes its lag with it."""
    create_topic(broker.bootstrap, topic)
    produce(broker, topic, 10)
    group = new_group()
    commit(broker, group, topic, 4)
    admin(broker.bootstrap).delete_topics([topic])[topic].result(TIMEOUT_S)
    answer = requests.get(f"{broker.http}/api/v1/groups/{group}/lag", timeout=30)
    assert answer.status_code == 404 or answer.json()["partitions"] == []
    assert metrics_lag(broker, group) == {}


def test_empty_topic(broker, topic):
    """A group that has committed 0 on an empty topic is caught up."""
    create_topic(broker.bootstrap, topic)
    group = new_group()
    commit(broker, group, topic, 0)
    for source in SOURCES:
        assert source(broker, group) == {(topic, 0): (0, 0.0)}


@pytest.mark.parametrize("age_s", [0, 100, 86_400, 10 * 365 * 86_400])
def test_age_is_by_the_records_timestamp(broker, topic, age_s):
    """Replayed history is as old as it says; its lag in seconds too."""
    create_topic(broker.bootstrap, topic, config={"retention.ms": -1})
    timestamp = int((time.time() - age_s) * 1000)
    produce(broker, topic, 20, timestamp)
    produce(broker, topic, 20)
    group = new_group()
    commit(broker, group, topic, 7)
    for source in SOURCES:
        before = time.time()
        records, seconds = source(broker, group)[topic, 0]
        after = time.time()
        assert records == 33
        oldest, newest = before - timestamp / 1000, after - timestamp / 1000
        assert oldest - TOLERANCE_S <= seconds <= newest + TOLERANCE_S
    commit(broker, group, topic, 40)
    for source in SOURCES:
        assert source(broker, group) == {(topic, 0): (0, 0.0)}


def test_future_timestamps_have_no_age(broker, topic):
    """A producer whose clock is ahead makes lag in records and none in seconds."""
    create_topic(broker.bootstrap, topic)
    produce(broker, topic, 5, int((time.time() + 600) * 1000))
    group = new_group()
    commit(broker, group, topic, 0)
    for source in SOURCES:
        assert source(broker, group) == {(topic, 0): (5, 0.0)}


def test_records_deleted_before_they_were_consumed(broker, topic):
    """What is deleted cannot be consumed any more: lag counts from the log start, and its first record's age."""
    create_topic(broker.bootstrap, topic)
    old = int((time.time() - 5000) * 1000)
    produce(broker, topic, 10, old)
    produce(broker, topic, 10, old + 4_000_000)
    group = new_group()
    commit(broker, group, topic, 3)
    place = TopicPartition(topic, 0, 10)
    admin(broker.bootstrap).delete_records([place])[place].result(TIMEOUT_S)
    first = (old + 4_000_000) / 1000
    for source in SOURCES:
        before = time.time()
        records, seconds = source(broker, group)[topic, 0]
        after = time.time()
        assert records == 10
        assert before - first - TOLERANCE_S <= seconds <= after - first + TOLERANCE_S


def test_deleted_offsets(broker, topic):
    """OffsetDelete takes one partition out of a group's lag and leaves the others."""
    create_topic(broker.bootstrap, topic)
    create_topic(broker.bootstrap, f"{topic}-other")
    group = new_group()
    for name in (topic, f"{topic}-other"):
        produce(broker, name, 3)
        commit(broker, group, name, 1)
    client = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    place = KafkaPythonPartition(topic, 0)
    (error,) = client.delete_group_offsets(group, [place]).values()
    client.close()
    assert error.errno == 0
    for source in SOURCES:
        assert source(broker, group).keys() == {(f"{topic}-other", 0)}
