"""Who takes part: each actor is a thread with a client of its own, which does one thing until it is told to stop."""

import random
import threading
import time
from itertools import count

import confluent_kafka
from confluent_kafka import Consumer, TopicPartition

from compat.client import Message

from .checker import History, Outcome

PARTITIONS = 4
PLAIN, TRANSACTED = "plain", "transacted"

# Records that are written at once.
BATCH = range(1, 9)


class Actor(threading.Thread):
    """Runs `act` until told to stop; an error costs the client, and a new one goes on."""

    def __init__(self, name: str, kind, bootstrap: str, history: History, seed: str):
        super().__init__(name=name, daemon=True)
        self.kind, self.bootstrap, self.history = kind, bootstrap, history
        self.rng = random.Random(f"{seed}/{name}")
        self.stopping = threading.Event()
        self.client = None
        self.errors: list[str] = []

    def run(self):
        while not self.stopping.is_set():
            try:
                self.client = self.client or self._open()
                self.act()
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {str(error)[:200]}")
                self._discard()
                time.sleep(0.2)
        self.finish()
        self._discard()

    def _open(self):
        return self.kind(self.bootstrap)

    def _discard(self):
        client, self.client = self.client, None
        try:
            if client:
                client.close()
        except Exception as error:
            self.errors.append(f"closing: {error}"[:200])

    def act(self):
        """One step."""
        raise NotImplementedError

    def finish(self):
        """After the last step, with a broker that stays."""


class Writer(Actor):
    """An idempotent producer: a batch, its acknowledgement, the next batch."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.lives = count()
        self.numbers = count()

    def _open(self):
        # After an error a batch may still be on its way, so what comes next must not be compared with it.
        self.writer = f"{self.name}.{next(self.lives)}"
        return super()._open()

    def act(self):
        partition = self.rng.randrange(PARTITIONS)
        values = [f"{self.writer}:{partition}:{next(self.numbers)}" for _ in range(self.rng.choice(BATCH))]
        outcome = Outcome.UNKNOWN
        try:
            messages = [Message(value.encode(), None, (), int(time.time() * 1000), partition) for value in values]
            self.client.produce(PLAIN, messages, self.rng.choice(["none", "lz4"]), idempotent=True)
            outcome = Outcome.ACKNOWLEDGED
        finally:
            self.history.written.append((values, outcome))


class Transactor(Actor):
    """A transactional producer: commits, or aborts on purpose. An error leaves a transaction to its successor."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.numbers = count()

    def act(self, outcome: str | None = None):
        outcome = outcome or self.rng.choice(["commit", "commit", "abort"])
        values = [f"{self.name}:0:{next(self.numbers)}" for _ in range(self.rng.choice(BATCH))]
        known = Outcome.UNKNOWN if outcome == "commit" else Outcome.ABORTED
        try:
            self.client.transact(self.name, TRANSACTED, [value.encode() for value in values], outcome)
            known = Outcome.ACKNOWLEDGED if outcome == "commit" else Outcome.ABORTED
        finally:
            self.history.written.append((values, known))
            self.history.transactions.append(values)

    def finish(self):
        # Whatever is open would hold up readers until it times out.
        for _ in range(20):
            try:
                self.client = self.client or self._open()
                return self.act("commit")
            except Exception as error:
                self.errors.append(f"last: {error}"[:200])
                self._discard()
                time.sleep(0.5)


class Member(Actor):
    """A member of a group, which leaves now and then and comes back."""

    def __init__(self, name, kind, bootstrap, history, seed, group: str, protocol: str):
        super().__init__(name, kind, bootstrap, history, seed)
        self.group, self.protocol = group, protocol

    def _open(self):
        client = super()._open()
        client.join("member", self.group, PLAIN, self.protocol)
        self.leaves_at = time.monotonic() + self.rng.uniform(4, 15)
        return client

    def act(self):
        polled = self.client.poll("member")
        if polled.values:
            self.history.seen[self.group] += [value.decode() for value in polled.values]
            self.client.commit("member")
        if time.monotonic() > self.leaves_at:
            self.client.leave("member")
            self._discard()


class Reader(Actor):
    """Reads every partition from its start and never jumps: it must see each offset once, whatever happens."""

    def _open(self):
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "none", "enable.auto.commit": False,
                             "isolation.level": "read_committed", "auto.offset.reset": "error",
                             "reconnect.backoff.max.ms": 500, "log_level": 0})  # fmt: skip
        consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in places()])
        return consumer

    def run(self):
        consumer = self._open()
        while not self.stopping.is_set():
            for message in consumer.consume(500, 0.2):
                if not message.error():
                    place = (message.topic(), message.partition(), message.offset())
                    self.history.read.append((place, message.value().decode()))
                elif not message.error().retriable() and message.error().code() >= 0:
                    self.errors.append(str(message.error()))
        consumer.close()


def places() -> list[tuple[str, int]]:
    """Every partition that is written to."""
    return [(PLAIN, partition) for partition in range(PARTITIONS)] + [(TRANSACTED, 0)]


def read_log(bootstrap: str) -> dict[tuple[str, int], list[tuple[int, str]]]:
    """Every partition from its start to its last stable offset, by a new reader."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "isolation.level": "read_committed",
                         "enable.partition.eof": True, "auto.offset.reset": "error"})  # fmt: skip
    log: dict = {place: [] for place in places()}
    consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in log])
    left, deadline = set(log), time.monotonic() + 60
    while left:
        assert time.monotonic() < deadline, f"no end of {left}"
        for message in consumer.consume(1000, 1):
            place = (message.topic(), message.partition())
            if not message.error():
                log[place].append((message.offset(), message.value().decode()))
            elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                left.discard(place)
    consumer.close()
    return log
