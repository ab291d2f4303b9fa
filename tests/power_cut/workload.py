"""One life of a broker on the logged disk: what its clients do, and what they are promised."""

import random
import re
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness.broker import Highwater
from harness.ledger import PERSISTENT

from .aims import Aims
from .check import DATA_DIR
from .endings import Endings
from .filesystems import Disk
from .interruptions import Interruptions
from .ledger import COMPACTED, Found, Ledger, TopicPromises, author_of, key, value
from .settings import BATCH_BYTES, FLEETING, FLEETING_CONFIG, GROUPS, TOPICS, settings
from .survey import survey
from .tools import repair
from .whole_syncs import WholeSyncs

TIMEOUT_S = 60

# What it says of a copy that it has made.
KEPT = re.compile(r'kept="quarantine/([^"]+)"')
# The weight of a step that is to come often: about as much as all others have together.
OFTEN = 150
# So many records are sent at most to get there.
FILLED_MAX = 60


class Life:
    """A broker from its start to the power cut, and the clients around it. The ledger gets every promise."""

    def __init__(
        self, number: int, rng: random.Random, disk: Disk, ledger: Ledger, directory: Path, often: tuple[str, ...] = ()
    ):
        self.number = number
        # The names of steps that come more often than others.
        self.often = often
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
            self._send_one: 40, self._send_burst: 18, self._send_everywhere: 8, self._read: 12, self._commit: 14,
            self._delete_records: 8, self._fleeting_topic: 10, self._rest: 8, self._trickle: 5, self._stop: 2,
            self._stop_twice: 3, self._kill: 2, self._kill_unsynced: 5,
        }  # fmt: skip
        if self.disk.interrupts:
            interruptions = Interruptions(self)
            ways |= interruptions.ways() | Aims(interruptions).ways()
        if self.disk.syncs_everything:
            ways |= WholeSyncs(self).ways()
        while self.disk.state.flushes() < flushes:
            self.disk.state.delay_flushes(self.rng.choice([0, 0.0005, 0.002]))
            self._go(ways)

    def last_step(self) -> None:
        """What the next life begins with a part of."""
        self._go(Endings(self).ways())

    def _go(self, ways: dict) -> None:
        """Goes one of some ways, drawn by their weights."""
        weights = [OFTEN if way.__name__.lstrip("_") in self.often else weight for way, weight in ways.items()]
        way = self.rng.choices(list(ways), weights)[0]
        way()
        self.steps[way.__name__] = self.steps.get(way.__name__, 0) + 1

    def settle(self) -> None:
        """Waits until everything is answered. Partitions end at `ends` then."""
        self.await_answers()
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
        # The life before may have been cut in a repair.
        unrepaired = repair(self.broker.data_dir, self.ledger.in_repair(self.position))
        assert not unrepaired, unrepaired
        self.ledger.given_up(self.position)
        named = self._named_offsets()
        self.broker.start()
        self.ledger.ends_found(self.look_around(), self.position)
        # Nobody has an author's name for a second time.
        self.ledger.authors |= {f"life-{self.number}"}
        for name, (partitions, config) in TOPICS.items():
            if name not in self.authors:
                self.create(name, partitions, config)
        self._fill_up(named)

    def _named_offsets(self) -> list[tuple[str, int, int]]:
        """The offsets that segments and snapshots of producers have in their names, with their partitions."""
        named = set()
        for path in self.broker.data_dir.glob("topics/*-[0-9]/*"):
            if path.suffix in (".log", ".producers") and path.stem.isdigit():
                name, index = path.parent.name.rsplit("-", 1)
                named.add((name, int(index), int(path.stem)))
        return sorted(named)

    def _fill_up(self, named: list[tuple[str, int, int]]) -> None:
        """Sends what it takes to get to where segments began, and snapshots were taken, that the start has removed.

        If the name of one came back now, its records would stand where they stood, and its producers would be known
        instead of those who have sent since. So few bytes are sent that no new segment is begun meanwhile, whose name
        is synced, and to each such place by another producer.
        """
        for name, index, offset in named:
            place = (name, index)
            if not 0 < offset - self.ends.get(place, offset) <= FILLED_MAX:
                continue
            filler = Producer({"bootstrap.servers": self.broker.bootstrap, **PERSISTENT, "enable.idempotence": True,
                               "linger.ms": 5, "compression.type": "lz4"})  # fmt: skip
            while self.ends[place] < offset:
                self.send(name, index, filler)
            assert filler.flush(TIMEOUT_S) == 0, f"{name}-{index} takes no records"
            with self.watching():
                for other in self.ends:
                    if other != place:
                        self.send(*other)
                self.await_answers()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """For what the life has aimed at: all images of it are looked at, and there are more of them."""
        begin = self.position
        yield
        self.ledger.watched.append((begin, self.position))

    def look_around(self) -> Found:
        """Takes note of all that a broker shows after its start: it has to stay."""
        found = survey(self.broker.bootstrap, self.broker.data_dir, self.ledger.commits)
        broken = self.ledger.broken(found, self.position)
        assert not broken, f"life {self.number} finds {broken}"
        # A copy that a killed process has begun is nobody's promise.
        kept = KEPT.findall(self.broker.log_path.read_text(errors="replace"))
        found.quarantined = {name: copy for name, copy in found.quarantined.items() if name in kept}
        self.ledger.shown(found, self.position)
        self.ends = {
            (name, index): log_start + len(records)
            for name, partitions in found.topics.items()
            for index, (log_start, records) in enumerate(partitions)
        }
        self.authors = {name: self.authors.get(name, f"life-{self.number}") for name in found.topics}
        return found

    def _connect(self) -> None:
        common = {"bootstrap.servers": self.broker.bootstrap, **PERSISTENT}
        self.admin = AdminClient(common)
        self.producer = Producer({**common, "enable.idempotence": True, "linger.ms": 0, "batch.size": BATCH_BYTES,
                                  "message.timeout.ms": 300_000})  # fmt: skip
        reading = {**common, "enable.auto.commit": False}
        self.consumer = Consumer({**reading, "group.id": "nobody", "auto.offset.reset": "earliest",
                                  "fetch.wait.max.ms": 10})  # fmt: skip
        self.committers = {group: Consumer({**reading, "group.id": group}) for group in GROUPS}

    def create(self, name: str, partitions: int, config: dict) -> None:
        """Makes a topic."""
        new, topic = self.new_topic(name, partitions, config)
        self.admin.create_topics([new])[name].result(TIMEOUT_S)
        topic.created = self.position
        self.get_to_know(name)
        for index in range(partitions):
            self.ends[(name, index)] = 0

    def new_topic(self, name: str, partitions: int, config: dict) -> tuple[NewTopic, TopicPromises]:
        """A topic that is to be asked for, and what is noted of it."""
        topic = self.ledger.create_asked(name, partitions, self.position, config.get("retention.bytes"))
        self._topics_made += 1
        self.authors[name] = f"life-{self.number}.{self._topics_made}"
        self.ledger.authors.add(self.authors[name])
        return NewTopic(name, partitions, 1, config={name: str(setting) for name, setting in config.items()}), topic

    def get_to_know(self, name: str) -> None:
        """Tells the clients of a topic. What they still know of one that had the name before would be in their way."""
        for client in (self.producer, self.consumer):
            client.list_topics(name, timeout=TIMEOUT_S)

    def send(self, name: str, partition: int, producer: Producer | None = None) -> None:
        """Sends a partition's next record."""
        author, number = self.authors[name], self.ends[(name, partition)]

        def delivered(error, message) -> None:
            self._unanswered -= 1
            assert error is None, f"{name}-{partition}: {number} was not taken: {error}"
            assert message.offset() == number, f"{name}-{partition}: {number} went to offset {message.offset()}"
            self.ledger.record_known(name, partition, number, author, self.position)

        producer = producer or self.producer
        producer.produce(name, value(author, name, partition, number), key(name, partition, number), partition,
                         on_delivery=delivered)  # fmt: skip
        self.ends[(name, partition)] += 1
        self._unanswered += 1

    def await_answers(self) -> None:
        while self._unanswered:
            self.producer.poll(0.1)
            assert self.broker.is_running(), self.broker.log_tail()

    def _send_one(self) -> None:
        """One record, and nothing else before it is acknowledged: no other flush can stand in for its own."""
        self.await_answers()
        self.send(*self.rng.choice(list(self.ends)))
        self.await_answers()

    def _send_burst(self) -> None:
        for _ in range(self.rng.randrange(5, 40)):
            self.send(*self.rng.choice(list(self.ends)))
            self.producer.poll(0)

    def _send_everywhere(self) -> None:
        """One record to each partition, and nothing else before all are acknowledged: they may be synced together."""
        self.await_answers()
        for place in self.ends:
            self.send(*place)
        self.await_answers()

    def watermarks(self, name: str, partition: int) -> tuple[int, int]:
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
        low, high = self.watermarks(name, partition)
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
            place = (group, "steady", partition)
            offset = max((offset for _, _, offset in self.ledger.commits.get(place, [])), default=0)
            places.append(TopicPartition("steady", partition, offset + self.rng.randrange(1, 5)))
            self.ledger.committed(place, asked, None, places[-1].offset)
        for place in self.committers[group].commit(offsets=places, asynchronous=False):
            assert place.error is None, f"commit of {group}: {place.error}"
            self.ledger.committed((group, "steady", place.partition), asked, self.position, place.offset)

    def _delete_records(self) -> None:
        partition = self.rng.randrange(TOPICS["rolling"][0])
        low, high = self.watermarks("rolling", partition)
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
            self.create(name, FLEETING[name], FLEETING_CONFIG)
            return
        self.await_answers()
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

    def _trickle(self) -> None:
        """Batches that nobody waits for, with time in between: the log rolls where all before it is durable."""
        self.await_answers()
        # Half of them for compaction.
        name, partition = place = self.rng.choice([(COMPACTED, 0), self.rng.choice(list(self.ends))])
        hasty = self.hasty_producer()
        for _ in range(5):
            for number in range(self.ends[place], self.ends[place] + 10):
                self.send_hastily(hasty, name, partition, number)
            self.ends[place] += 10
            assert hasty.flush(TIMEOUT_S) == 0, f"{name}-{partition} takes no records"
            time.sleep(self.rng.choice([0.02, 0.1, 0.35]))

    def hasty_producer(self) -> Producer:
        """A producer that does not wait for any sync."""
        return Producer({"bootstrap.servers": self.broker.bootstrap, "acks": 1, "linger.ms": 0,
                         "batch.size": BATCH_BYTES, **PERSISTENT})  # fmt: skip

    def send_hastily(self, hasty: Producer, name: str, partition: int, number: int) -> None:
        """Sends a record that nobody waits for."""
        hasty.produce(name, value(self.authors[name], name, partition, number), key(name, partition, number), partition)

    def send_some_hastily(self, hasty: Producer) -> list[tuple[str, int]]:
        """Sends records to some partitions, but not to all. Where these end is not known before the broker is asked."""
        places = self.rng.sample(list(self.ends), self.rng.choice([1, 3, 5]))
        for name, partition in places:
            end = self.ends[(name, partition)]
            for number in range(end, end + self.rng.randrange(1, 40)):
                self.send_hastily(hasty, name, partition, number)
        return places

    def restart(self, **others) -> None:
        """Starts the broker again, with other settings: those that are named, the others drawn."""
        self.broker.settings.update(settings(self.rng) | others)
        self.broker.start()

    def _stop(self) -> None:
        self.broker.stop()
        self.restart()

    def _stop_twice(self) -> None:
        """With nothing to do in between but what comes with time."""
        self._stop()
        time.sleep(0.5)
        self._stop()

    def _kill(self) -> None:
        """kill -9 in the middle of whatever is going on; the producer sends again what was not acknowledged."""
        self.broker.kill()
        self.restart()

    def _kill_unsynced(self) -> None:
        """kill -9 of a broker that has just taken records which nobody waits for.

        The page cache holds them and the disk does not. The next process shows them, so it has to see to it that they
        stay; nothing else is written meanwhile that could do so in its place.
        """
        self.await_answers()
        if self.rng.random() < 0.5:
            # It leaves snapshots of the producers, so the next start has no reason to write any.
            self._stop()
        hasty = self.hasty_producer()
        self.send_some_hastily(hasty)
        hasty.flush(self.rng.choice([0.005, 1]))
        self.broker.kill()
        hasty.purge()
        self.restart()
        self.look_around()
