"""A group that is stopped for a minute under steady load, and catches up: lag to the second, and when it will be over.

Three groups at once, so that it takes no longer than one: of a plain topic, of a compacted one of which compaction has
taken records out, and of one with transactions of which the group sees the committed ones only.
"""

import threading
import time
from contextlib import ExitStack

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from harness.admin import TIMEOUT_S, create_topic
from harness.broker import Highwater, wait_until
from harness.clients import new_group
from harness.lag import SOURCES, cli_rows, rows

PAUSE_S = 60
TOLERANCE_S = 1.0

# Records a second.
PRODUCED = 50
CONSUMED = 150

# How much the time to catch up may be off, as a part of it.
ESTIMATE_ERROR_MAX = 0.2

# With this a segment of the least size that Kafka knows is full within five seconds.
VALUE = bytes(range(250)) * 16
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.bytes": 1 << 20,
    "min.cleanable.dirty.ratio": 0.01,
    "delete.retention.ms": 3_600_000,
}

pytestmark = pytest.mark.highwater_only("lag is Highwater's")


class Work(threading.Thread):
    """Something that goes on until it is stopped, and may fail meanwhile."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stopping = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.work()
        except BaseException as failure:
            self.failure = failure

    def work(self) -> None:
        raise NotImplementedError

    def check(self) -> None:
        """Fails if it has."""
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """Ends it, and fails if it has failed."""
        self.stopping.set()
        self.join()
        self.check()


class Load(Work):
    """Records at a fixed rate."""

    SETTINGS: dict = {}

    def __init__(self, broker: Highwater, topic: str):
        super().__init__()
        self.topic = topic
        self.sent = 0
        # The offset of the last record that consumers are to see.
        self.last_offset = -1
        self.producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 5, **self.SETTINGS})
        self.errors: list = []

    def work(self) -> None:
        began = time.monotonic()
        while not self.stopping.is_set():
            self.send(began)
        assert self.producer.flush(TIMEOUT_S) == 0

    def check(self) -> None:
        super().check()
        assert not self.errors, self.errors[:3]

    def send(self, began: float) -> None:
        """Sends the next record when it is due."""
        time.sleep(max(0.0, began + self.sent / PRODUCED - time.monotonic()))
        self.producer.produce(self.topic, VALUE, self.key(), on_delivery=self.delivered)
        self.producer.poll(0)
        self.sent += 1

    def key(self) -> bytes | None:
        """Key of the next record."""
        return None

    def delivered(self, error, message) -> None:
        """Remembers the last offset."""
        if error is not None:
            self.errors.append(error)
        else:
            self.last_offset = max(self.last_offset, message.offset())


class Updates(Load):
    """Every fourth record takes the place of the one before, until nothing more is to be overwritten."""

    overwriting = True

    def key(self) -> bytes:
        return b"hot" if self.overwriting and self.sent % 4 == 0 else b"%d" % self.sent


class Transactions(Load):
    """Transactions of ten records, every third of which is aborted."""

    def __init__(self, broker: Highwater, topic: str):
        self.SETTINGS = {"transactional.id": topic}
        super().__init__(broker, topic)

    def work(self) -> None:
        self.producer.init_transactions(TIMEOUT_S)
        began = time.monotonic()
        number = 0
        while not self.stopping.is_set():
            number += 1
            before = self.last_offset
            self.producer.begin_transaction()
            for _ in range(10):
                self.send(began)
            if number % 3 == 0:
                assert self.producer.flush(TIMEOUT_S) == 0
                self.producer.abort_transaction(TIMEOUT_S)
                self.last_offset = before
            else:
                self.producer.commit_transaction(TIMEOUT_S)


class Member(Work):
    """Consumes at a fixed rate as the group's only member, and commits twice a second."""

    def __init__(self, broker: Highwater, topic: str, group: str, isolation: str):
        super().__init__()
        self.topic = topic
        self.next_offset = -1
        self.newest_s = 0.0
        self.first_at: float | None = None
        self.caught_up_at: float | None = None
        self.stopped_at: float | None = None
        self.consumer = Consumer(
            {
                "bootstrap.servers": broker.bootstrap,
                "group.id": group,
                "client.id": group,
                "isolation.level": isolation,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        self.consumer.subscribe([topic])

    def work(self) -> None:
        consumed, committed_at = 0, time.monotonic()
        while not self.stopping.is_set():
            message = None
            if consumed == 0:
                message = self.consumer.poll(0.1)
            elif consumed <= (time.time() - self.first_at) * CONSUMED:
                message = self.consumer.poll(0)
            if message is None:
                # It may take more and there is none, so it is at the end; but for the moment between two fetches.
                may_take = consumed > 0 and consumed <= (time.time() - self.first_at) * CONSUMED
                if may_take and self.caught_up_at is None and time.time() - self.newest_s < 2:
                    self.caught_up_at = time.time()
                time.sleep(0.005)
            else:
                self.take(message)
                consumed += 1
            if consumed > 0 and time.monotonic() - committed_at >= 0.5:
                self.commit()
                committed_at = time.monotonic()
        self.commit()
        self.stopped_at = time.time()
        self.consumer.close()

    def take(self, message) -> None:
        """Notes a record."""
        if message.error():
            raise KafkaException(message.error())
        self.first_at = self.first_at or time.time()
        assert message.offset() >= self.next_offset, "offsets rise"
        self.next_offset = message.offset() + 1
        self.newest_s = message.timestamp()[1] / 1000

    def commit(self) -> None:
        """Commits what was consumed."""
        (place,) = self.consumer.commit(
            offsets=[TopicPartition(self.topic, 0, self.next_offset)], asynchronous=False
        )
        assert not place.error, place.error


class Case:
    """A topic under load, and a group that reads it."""

    def __init__(self, broker: Highwater, topic: str, load: type[Load], isolation: str, config: dict | None = None):
        create_topic(broker.bootstrap, topic, config=config)
        self.broker, self.topic, self.isolation = broker, topic, isolation
        self.group = new_group()
        self.load = load(broker, topic)
        self.load.start()
        self.member = self.join()

    def join(self) -> Member:
        """The group's next member."""
        self.member = Member(self.broker, self.topic, self.group, self.isolation)
        self.member.start()
        return self.member

    def row(self) -> dict:
        """What the JSON API says of the group's only partition."""
        (row,) = rows(self.broker, self.group)
        return row

    def cli_row(self) -> dict:
        """What `highwater lag` says of it."""
        (row,) = cli_rows(self.broker, self.group)
        return row

    def has(self, moment: str) -> bool:
        """Whether the member has come so far."""
        self.load.check()
        self.member.check()
        return getattr(self.member, moment) is not None

    def waits_since(self) -> float:
        """When the record was written that the group has to read next."""
        reader = Consumer(
            {
                "bootstrap.servers": self.broker.bootstrap,
                "group.id": new_group(),
                "isolation.level": self.isolation,
                "enable.auto.commit": False,
            }
        )
        reader.assign([TopicPartition(self.topic, 0, self.member.next_offset)])
        message = reader.poll(TIMEOUT_S)
        reader.close()
        assert message is not None and not message.error(), message and message.error()
        return message.timestamp()[1] / 1000

    def check_pause(self) -> None:
        """From everywhere comes how old the first record is that the member has not got: about as old as the pause."""
        since = self.waits_since()
        for source in SOURCES:
            before = time.time() - since
            ((_, seconds),) = source(self.broker, self.group).values()
            after = time.time() - since
            assert before - TOLERANCE_S <= seconds <= after + TOLERANCE_S, (self.topic, source.__name__)
            assert seconds >= 0.9 * PAUSE_S, (self.topic, source.__name__)

    def estimates(self) -> list[tuple[float, float]]:
        """When it was asked, and the seconds that it was said to take then."""
        told = []
        for ask in (self.row, self.cli_row):

            def asked() -> tuple[float, float] | None:
                at, seconds = time.time(), ask()["catch_up_seconds"]
                return (at, seconds) if seconds else None

            told.append(wait_until(asked, "rates are known"))
        return told

    def stop(self) -> None:
        """Ends load and member whatever has become of the test."""
        self.load.stopping.set()
        self.member.stopping.set()
        self.load.join()
        self.member.join()


def test_a_minute_of_pause(start_broker, topic):
    """Stopped for 60 s a group is 60 s behind; then it catches up when it was said that it would, and is at 0."""
    broker = start_broker({"log.cleaner.backoff.ms": 100})
    with ExitStack() as stack:
        plain = Case(broker, f"{topic}-plain", Load, "read_uncommitted")
        compacted = Case(broker, f"{topic}-compacted", Updates, "read_uncommitted", COMPACTED)
        committed = Case(broker, f"{topic}-transactions", Transactions, "read_committed")
        cases = [plain, compacted, committed]
        for case in cases:
            stack.callback(case.stop)
        wait_until(lambda: all(case.has("caught_up_at") for case in cases), "all read along")
        # Until each of them is known to be at the end, and how it reads.
        time.sleep(3)

        for case in cases:
            case.member.stop()
        wake = max(case.member.stopped_at for case in cases) + PAUSE_S
        time.sleep(max(0.0, wake - time.time()))
        for case in cases:
            case.check_pause()

        compacted.load.overwriting = False
        told = {case: case.row() for case in cases}
        hidden = {
            case: row["log_end_offset"] - row["committed_offset"] - row["lag_records"] for case, row in told.items()
        }
        assert all(row["exact"] for row in told.values()), told
        assert [row["isolation"] for row in told.values()] == [case.isolation for case in cases]
        assert hidden[plain] == 0
        # Of 60 s: an eighth at least, although what was written last is not compacted; a third, and the markers.
        assert hidden[compacted] >= PRODUCED * PAUSE_S / 8, told[compacted]
        assert hidden[committed] >= PRODUCED * PAUSE_S / 4, told[committed]

        for case in cases:
            case.join()
        wait_until(lambda: all(case.has("first_at") for case in cases), "all go on")
        time.sleep(4)
        estimates = {case: case.estimates() for case in cases}
        wait_until(lambda: all(case.has("caught_up_at") for case in cases), "all have caught up", 90)
        for case, told in estimates.items():
            for at, seconds in told:
                took = case.member.caught_up_at - at
                assert abs(seconds - took) <= ESTIMATE_ERROR_MAX * took, (case.topic, seconds, took)

        for case in cases:
            case.load.stop()
        for case in cases:
            wait_until(lambda: case.row()["lag_records"] == 0, f"{case.topic} is read to its end")
            assert case.member.next_offset > case.load.last_offset
            for source in SOURCES:
                assert source(broker, case.group) == {(case.topic, 0): (0, 0.0)}
            for row in (case.row(), case.cli_row()):
                assert row["catch_up_seconds"] == 0
            case.member.stop()
