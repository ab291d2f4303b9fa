"""One life of a broker on the logged disk: what its clients do, and what they are promised."""

import random
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness.broker import Highwater
from harness.ledger import PERSISTENT

from .check import DATA_DIR
from .filesystems import Disk
from .ledger import Ledger, author_of, value
from .survey import survey

TIMEOUT_S = 60

# Small segments roll often. What a topic's retention leaves is kept by the ledger, so it stands here once.
TOPICS = {
    "steady": (2, {"segment.bytes": 96 << 10}),
    "rolling": (1, {"segment.bytes": 16 << 10, "index.interval.bytes": 1024}),
    "retained": (1, {"segment.bytes": 12 << 10, "retention.bytes": 48 << 10}),
}
# No batch is larger than a segment.
BATCH_BYTES = 8 << 10
# Topics that come and go, and how many partitions they have.
FLEETING = {"fleeting-0": 1, "fleeting-1": 2}
GROUPS = ["readers", "others"]


def settings(rng: random.Random) -> dict:
    """How the broker of one life is set up: short intervals and small snapshots, so that all happens that can."""
    return {
        # A producer that remembers a deleted topic would make it anew.
        "auto.create.topics.enable": False,
        "checkpoint_interval_ms": rng.choice([10, 30, 100]),
        "disk_free_hard_bytes": 1 << 20,
        "flush_linger_ms": rng.choice([5, 50]),
        "group_partitions": 1,
        "group_snapshot_bytes": rng.choice([2048, 8192]),
        "log.retention.check.interval.ms": rng.choice([100, 300]),
        "write_mode": rng.choice(["mapped", "mapped", "pwrite"]),
    }


class Life:
    """A broker from its start to the power cut, and the clients around it. The ledger gets every promise."""

    def __init__(self, number: int, rng: random.Random, disk: Disk, ledger: Ledger, directory: Path):
        self.number = number
        self.rng = rng
        self.disk = disk
        self.ledger = ledger
        self.broker = Highwater(directory, settings(rng), disk.mount_point / DATA_DIR)
        self.steps: dict[str, int] = {}
        # By partition: how many were sent, which is where the next one goes.
        self.ends: dict[tuple[str, int], int] = {}
        # By topic: in whose name its records are sent.
        self.authors: dict[str, str] = {}
        self._unanswered = 0
        self._topics_made = 0

    @property
    def position(self) -> int:
        """How far the disk's journal is."""
        return self.disk.state.position()

    def run(self, flushes: int) -> None:
        """Works until the disk has seen so many flushes; then nothing is stopped or closed, as when the power goes."""
        self._begin()
        ways = {
            self._send_one: 40, self._send_burst: 18, self._read: 12, self._commit: 14, self._delete_records: 8,
            self._fleeting_topic: 6, self._rest: 8, self._stop: 2, self._kill: 2, self._kill_unsynced: 3,
        }  # fmt: skip
        while self.disk.state.flushes() < flushes:
            self.disk.state.delay_flushes(self.rng.choice([0, 0.0005, 0.002]))
            way = self.rng.choices(list(ways), list(ways.values()))[0]
            way()
            self.steps[way.__name__] = self.steps.get(way.__name__, 0) + 1

    def settle(self) -> None:
        """Waits until everything is answered. Partitions end at `ends` then."""
        self._await_answers()
        self.disk.state.delay_flushes(0)

    def end(self) -> None:
        """Ends the broker and its clients, after whatever was to be seen of them."""
        self.disk.state.heal()
        self.disk.state.delay_flushes(0)
        if self.broker.process is not None:
            self.broker.kill()
        self.producer.purge()
        for consumer in [self.consumer, *self.committers.values()]:
            consumer.close()

    def _begin(self) -> None:
        self._connect()
        self.broker.start()
        self._look_around()
        for name, (partitions, config) in TOPICS.items():
            if name not in self.authors:
                self._create(name, partitions, config)

    def _look_around(self) -> None:
        """Takes note of all that a broker shows after its start: it has to stay."""
        found = survey(self.broker.bootstrap, self.ledger.commits)
        broken = self.ledger.broken(found, self.position)
        assert not broken, f"life {self.number} finds {broken}"
        self.ledger.shown(found, self.position)
        for name, partitions in found.topics.items():
            self.authors.setdefault(name, f"life-{self.number}")
            for index, (log_start, records) in enumerate(partitions):
                self.ends[(name, index)] = log_start + len(records)

    def _connect(self) -> None:
        common = {"bootstrap.servers": self.broker.bootstrap, **PERSISTENT}
        self.admin = AdminClient(common)
        self.producer = Producer({**common, "enable.idempotence": True, "linger.ms": 0, "batch.size": BATCH_BYTES,
                                  "message.timeout.ms": 300_000})  # fmt: skip
        reading = {**common, "enable.auto.commit": False}
        self.consumer = Consumer({**reading, "group.id": "nobody", "auto.offset.reset": "earliest",
                                  "fetch.wait.max.ms": 10})  # fmt: skip
        self.committers = {group: Consumer({**reading, "group.id": group}) for group in GROUPS}

    def _create(self, name: str, partitions: int, config: dict) -> None:
        retention = config.get("retention.bytes")
        topic = self.ledger.create_asked(name, partitions, self.position, retention)
        new = NewTopic(name, partitions, 1, config={key: str(setting) for key, setting in config.items()})
        self.admin.create_topics([new])[name].result(TIMEOUT_S)
        topic.created = self.position
        # What clients still know of a topic that had the name before would be in their way.
        for client in (self.producer, self.consumer):
            client.list_topics(name, timeout=TIMEOUT_S)
        self._topics_made += 1
        self.authors[name] = f"life-{self.number}.{self._topics_made}"
        for index in range(partitions):
            self.ends[(name, index)] = 0

    def _send(self, name: str, partition: int) -> None:
        author, number = self.authors[name], self.ends[(name, partition)]

        def delivered(error, message) -> None:
            self._unanswered -= 1
            assert error is None, f"{name}-{partition}: {number} was not taken: {error}"
            assert message.offset() == number, f"{name}-{partition}: {number} went to offset {message.offset()}"
            self.ledger.record_known(name, partition, number, author, self.position)

        self.producer.produce(name, value(author, name, partition, number), partition=partition, on_delivery=delivered)
        self.ends[(name, partition)] += 1
        self._unanswered += 1

    def _await_answers(self) -> None:
        while self._unanswered:
            self.producer.poll(0.1)
            assert self.broker.is_running(), self.broker.log_tail()

    def _send_one(self) -> None:
        """One record, and nothing else before it is acknowledged: no other flush can stand in for its own."""
        self._await_answers()
        self._send(*self.rng.choice(list(self.ends)))
        self._await_answers()

    def _send_burst(self) -> None:
        for _ in range(self.rng.randrange(5, 40)):
            self._send(*self.rng.choice(list(self.ends)))
            self.producer.poll(0)

    def _watermarks(self, name: str, partition: int) -> tuple[int, int]:
        """Where a partition begins and ends; (0, 0) if the client does not know."""
        try:
            return self.consumer.get_watermark_offsets(TopicPartition(name, partition), TIMEOUT_S)
        except KafkaException as error:
            # A client whose only broker has just restarted may have forgotten what it knew of topics and leaders.
            if error.args[0].code() in (KafkaError._UNKNOWN_PARTITION, KafkaError._NOENT):
                return 0, 0
            raise

    def _read(self) -> None:
        """Reads some partition from somewhere; what was read is as good as acknowledged."""
        name, partition = self.rng.choice(list(self.ends))
        low, high = self._watermarks(name, partition)
        if low == high:
            return
        self.consumer.assign([TopicPartition(name, partition, self.rng.randrange(low, high))])
        for message in self.consumer.consume(50, 0.2):
            if message.error():
                raise KafkaException(message.error())
            author = author_of(message.value(), name, partition, message.offset())
            assert author, f"{name}-{partition}: {message.value()[:60]!r} was read at offset {message.offset()}"
            self.ledger.record_known(name, partition, message.offset(), author, self.position)
        self.consumer.unassign()

    def _commit(self) -> None:
        """Commits offsets of a group that only ever go up."""
        group = self.rng.choice(GROUPS)
        places, asked = [], self.position
        for partition in range(TOPICS["steady"][0]):
            key = (group, "steady", partition)
            offset = max((offset for _, _, offset in self.ledger.commits.get(key, [])), default=0)
            places.append(TopicPartition("steady", partition, offset + self.rng.randrange(1, 5)))
            self.ledger.committed(key, asked, None, places[-1].offset)
        for place in self.committers[group].commit(offsets=places, asynchronous=False):
            assert place.error is None, f"commit of {group}: {place.error}"
            self.ledger.committed((group, "steady", place.partition), asked, self.position, place.offset)

    def _delete_records(self) -> None:
        partition = self.rng.randrange(TOPICS["rolling"][0])
        low, high = self._watermarks("rolling", partition)
        if high - low < 12:
            return
        offset, asked = self.rng.randrange(low + 1, high - 5), self.position
        self.ledger.log_start("rolling", partition, asked, None, offset)
        place = TopicPartition("rolling", partition, offset)
        try:
            self.admin.delete_records([place])[place].result(TIMEOUT_S)
        except KafkaException as error:
            # As above: then the broker was asked for nothing.
            if error.args[0].code() == KafkaError._NOENT:
                return
            raise
        self.ledger.log_start("rolling", partition, asked, self.position, offset)

    def _fleeting_topic(self) -> None:
        """Makes a topic, or deletes it, so that another can be made under its name."""
        name = self.rng.choice(list(FLEETING))
        if (name, 0) not in self.ends:
            self._create(name, FLEETING[name], {"segment.bytes": 16 << 10})
            return
        self._await_answers()
        topic = self.ledger.topics[name][-1]
        topic.delete_asked = self.position
        self.admin.delete_topics([name])[name].result(TIMEOUT_S)
        topic.deleted = self.position
        del self.authors[name]
        for partition in range(len(topic.partitions)):
            del self.ends[(name, partition)]

    def _rest(self) -> None:
        """Lets checkpoints and housekeeping have their turn."""
        self.producer.poll(self.rng.choice([0.02, 0.15, 0.35]))

    def _stop(self) -> None:
        self.broker.stop()
        self.broker.start()

    def _kill(self) -> None:
        """kill -9 in the middle of whatever is going on; the producer sends again what was not acknowledged."""
        self.broker.kill()
        self.broker.start()

    def _kill_unsynced(self) -> None:
        """kill -9 of a broker that has just taken records which nobody waits for.

        The page cache holds them and the disk does not. The next process shows them, so it has to see to it that they
        stay; nothing else is written meanwhile that could do so in its place.
        """
        self._await_answers()
        hasty = Producer({"bootstrap.servers": self.broker.bootstrap, "acks": 1, "linger.ms": 0,
                          "batch.size": BATCH_BYTES, **PERSISTENT})  # fmt: skip
        place = self.rng.choice(list(self.ends))
        for number in range(self.ends[place], self.ends[place] + self.rng.randrange(1, 40)):
            hasty.produce(place[0], value(self.authors[place[0]], *place, number), partition=place[1])
        hasty.flush(self.rng.choice([0.005, 1]))
        self.broker.kill()
        hasty.purge()
        self.broker.start()
        self._look_around()
