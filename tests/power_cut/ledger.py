"""What the broker has promised, each promise with the position of the disk's journal at which it was known.

A promise that is known at a position holds in every image of a power cut at that position or later. What was only
asked for may or may not be in an image: from the position before it was asked on, both are right.
"""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

PADDING_MAX = 1200
# Topics whose names begin so are compacted, and have so many keys.
COMPACTED = "compacted"
KEYS = 6


def head(author: str, topic: str, partition: int, number: int) -> bytes:
    """How a record begins: with whose it is and where it belongs."""
    return f"{author}/{topic}/{partition}/{number}:".encode()


@lru_cache(maxsize=200_000)
def value(author: str, topic: str, partition: int, number: int) -> bytes:
    """The record that `author` sends as a partition's `number`-th. No two are alike, and each can be made again."""
    begin = head(author, topic, partition, number)
    digest = hashlib.blake2b(begin).digest()
    length = int.from_bytes(digest[:2], "big") % PADDING_MAX
    return begin + (digest * (length // len(digest) + 1))[:length]


@lru_cache(maxsize=200_000)
def key(topic: str, partition: int, number: int) -> bytes | None:
    """The key of a partition's `number`-th record, whoever sends it; None if the topic is not compacted."""
    if not topic.startswith(COMPACTED):
        return None
    return b"key-%d" % (hashlib.blake2b(f"{topic}/{partition}/{number}".encode()).digest()[0] % KEYS)


def author_of(found: bytes, topic: str, partition: int, number: int) -> str | None:
    """Who sent this record of this place; None if nobody can have."""
    author = found.split(b"/", 1)[0].decode(errors="replace")
    return author if found == value(author, topic, partition, number) else None


@dataclass
class PartitionPromises:
    """A partition. Its records' numbers are their offsets, as long as none is lost, doubled or out of order."""

    # By offset: the record's author, and when it was acknowledged or read.
    records: dict[int, tuple[str, int]] = field(default_factory=dict)
    # Log starts: the position before it was asked for, the one at which it was known, the offset.
    log_starts: list[tuple[int, int | None, int]] = field(default_factory=list)
    # Offsets of batches that were damaged: the position before that, the first one, the one after the last, and the
    # position by which they had been given up.
    damaged: list[tuple[int, int, int, int | None]] = field(default_factory=list)
    # What a life has found: the position at which it was known, the end, and the authors who may have sent more before.
    found_ends: list[tuple[int, int, set[str]]] = field(default_factory=list)


@dataclass
class TopicPromises:
    """A topic from its creation to its deletion. One that is made again under the same name is another."""

    name: str
    partitions: list[PartitionPromises]
    # What retention leaves at least, in bytes; None if it takes nothing away.
    retention_bytes: int | None
    create_asked: int
    created: int | None = None
    delete_asked: int | None = None
    deleted: int | None = None


@dataclass
class Found:
    """What a broker on an image answers. Partitions are (log start, records from there to the high watermark).

    Where an offset has no record stands None.
    """

    topics: dict[str, list[tuple[int, list[bytes | None]]]] = field(default_factory=dict)
    committed: dict[tuple[str, str, int], int] = field(default_factory=dict)
    # What recovery has cut and kept, by the file's name.
    quarantined: dict[str, bytes] = field(default_factory=dict)


class Ledger:
    """All promises of one disk."""

    def __init__(self):
        # By name: the topics that had it, the oldest first.
        self.topics: dict[str, list[TopicPromises]] = {}
        # By group, topic and partition: the position before it was asked for, the one when it was known, the offset.
        self.commits: dict[tuple[str, str, int], list[tuple[int, int | None, int]]] = {}
        # Whoever has sent records.
        self.authors: set[str] = set()
        # By file: when it was seen in the quarantine, and what it held.
        self.quarantined: dict[str, tuple[int, bytes]] = {}
        # From where to where the life was at something that it had aimed at: there are more images of that.
        self.watched: list[tuple[int, int]] = []
        # Where it has left what the next life is to begin with, if it has.
        self.left_at: int | None = None

    def create_asked(
        self, name: str, partitions: int, position: int, retention_bytes: int | None = None
    ) -> TopicPromises:
        """Notes that a topic is about to be created."""
        topic = TopicPromises(name, [PartitionPromises() for _ in range(partitions)], retention_bytes, position)
        self.topics.setdefault(name, []).append(topic)
        return topic

    def record_known(self, name: str, partition: int, offset: int, author: str, position: int) -> None:
        """Notes that a record was acknowledged, or read, at this offset."""
        records = self.topics[name][-1].partitions[partition].records
        known = records.setdefault(offset, (author, position))
        assert known[0] == author, f"{name}-{partition}: offset {offset} was {known[0]}'s and is now {author}'s"

    def committed(self, key: tuple[str, str, int], asked: int, known: int | None, offset: int) -> None:
        """Notes a commit; `known` is None if nobody has answered it."""
        self.commits.setdefault(key, []).append((asked, known, offset))

    def log_start(self, name: str, partition: int, asked: int, known: int | None, offset: int) -> None:
        """Notes that records below an offset were to be deleted; `known` is None if nobody has answered it."""
        self.topics[name][-1].partitions[partition].log_starts.append((asked, known, offset))

    def damaged(self, name: str, partition: int, asked: int, first: int, end: int) -> None:
        """Notes that the batch of these offsets is about to be damaged."""
        self.topics[name][-1].partitions[partition].damaged.append((asked, first, end, None))

    def given_up(self, known: int) -> None:
        """Notes that what was damaged has been given up: the partitions are whole without it."""
        for topics in self.topics.values():
            for partition in topics[-1].partitions:
                partition.damaged = [
                    (asked, first, end, known if done is None else done)
                    for asked, first, end, done in partition.damaged
                ]

    def in_repair(self, position: int) -> list[str]:
        """The partitions that may be damaged."""
        return [
            f"{name}-{index}"
            for name, topics in self.topics.items()
            for index, partition in enumerate(topics[-1].partitions)
            if any(asked <= position and not _by(done, position) for asked, _, _, done in partition.damaged)
        ]

    def carried_over(self, position: int) -> "Ledger":
        """What a cut at `position` leaves of it: the promises that the next life begins with, at its position 0."""
        carried = Ledger()
        for name, topics in self.topics.items():
            begun = [topic for topic in topics if topic.create_asked <= position]
            carried.topics[name] = [_carried_topic(topic, position) for topic in begun]
        carried.commits = {key: _carried(commits, position) for key, commits in self.commits.items()}
        carried.authors = set(self.authors)
        carried.quarantined = {name: (0, kept) for name, (known, kept) in self.quarantined.items() if known <= position}
        return carried

    def shown(self, found: Found, position: int) -> None:
        """Notes what a start has shown: what was in doubt is so from now on, and what clients see has to stay."""
        for name, topics in self.topics.items():
            there = found.topics.get(name)
            if there is None:
                for topic in topics:
                    topic.delete_asked, topic.deleted = topic.delete_asked or 0, topic.deleted or position
                continue
            possible = [topic for topic in topics if topic.deleted is None]
            shown = min(reversed(possible), key=lambda topic: len(self._broken_partitions(topic, there, position)))
            for topic in possible:
                if topic is not shown:
                    topic.delete_asked, topic.deleted = topic.delete_asked or 0, position
            shown.created, shown.delete_asked = shown.created or position, None
            topics.remove(shown)
            topics.append(shown)
            for index, (log_start, records) in enumerate(there):
                self.log_start(name, index, position, position, log_start)
                for offset, record in enumerate(records, log_start):
                    if record is not None:
                        self.record_known(name, index, offset, author_of(record, name, index, offset), position)
        for key, offset in found.committed.items():
            if offset >= 0:
                self.committed(key, position, position, offset)
        for name, kept in found.quarantined.items():
            self.quarantined.setdefault(name, (position, kept))

    def ends_found(self, found: Found, position: int) -> None:
        """Notes where partitions end at the beginning of a life: what had been sent behind that is gone."""
        for name, partitions in found.topics.items():
            for promises, (log_start, records) in zip(self.topics[name][-1].partitions, partitions):
                promises.found_ends.append((position, log_start + len(records), set(self.authors)))

    def broken(self, found: Found, position: int) -> list[str]:
        """What `found` breaks of all that was promised at `position`; empty if it breaks nothing."""
        wrong = []
        for name in sorted(self.topics.keys() | found.topics.keys()):
            if not name.startswith("__"):
                wrong += self._broken_topic(name, found.topics.get(name), position)
        for key, commits in self.commits.items():
            promised = max((offset for _, known, offset in commits if _by(known, position)), default=-1)
            asked = max((offset for asked, _, offset in commits if asked <= position), default=-1)
            offset = found.committed.get(key, -1)
            if not promised <= offset <= asked:
                wrong.append(f"{key}: {offset} is committed; {promised} was acknowledged, {asked} asked for")
        for name, (known, kept) in self.quarantined.items():
            if known <= position and found.quarantined.get(name) != kept:
                is_there = name in found.quarantined
                wrong.append(f"{name}: {'is another one' if is_there else 'is gone'} from the quarantine")
        return wrong

    def _broken_topic(self, name: str, found: list | None, position: int) -> list[str]:
        begun = [topic for topic in self.topics.get(name, []) if topic.create_asked <= position]
        if not begun:
            return [f"{name}: there, and nobody has asked for it"] if found is not None else []
        last = begun[-1]
        must_be = _by(last.created, position) and not _by(last.delete_asked, position)
        if found is None:
            return [f"{name}: created, and not there"] if must_be else []
        possible = [topic for topic in begun if not _by(topic.deleted, position)]
        if not possible:
            return [f"{name}: deleted, and there again"]
        if must_be:
            possible = [last]
        # A topic that is being deleted, and its successor, may both be what is there.
        complaints = [self._broken_partitions(topic, found, position) for topic in possible]
        return min(complaints, key=len)

    def _broken_partitions(self, topic: TopicPromises, found: list, position: int) -> list[str]:
        if len(found) != len(topic.partitions):
            return [f"{topic.name}: {len(found)} partitions, {len(topic.partitions)} were created"]
        wrong = []
        for index, (promises, (log_start, records)) in enumerate(zip(topic.partitions, found)):
            where = f"{topic.name}-{index}"
            wrong += _broken_log_start(where, topic, promises, log_start, records, position)
            wrong += _broken_records(where, topic.name, index, promises, log_start, records, position)
        return wrong


def _by(when: int | None, position: int) -> bool:
    """Whether something had happened by this position."""
    return when is not None and when <= position


def _carried_topic(topic: TopicPromises, position: int) -> TopicPromises:
    partitions = []
    for partition in topic.partitions:
        records = {offset: (who, 0) for offset, (who, known) in partition.records.items() if known <= position}
        damaged = [
            (0, first, end, 0 if _by(done, position) else None)
            for asked, first, end, done in partition.damaged
            if asked <= position
        ]
        ends = [(0, end, authors) for known, end, authors in partition.found_ends if known <= position]
        partitions.append(PartitionPromises(records, _carried(partition.log_starts, position), damaged, ends))
    created, asked, deleted = (
        0 if _by(when, position) else None for when in (topic.created, topic.delete_asked, topic.deleted)
    )
    return TopicPromises(topic.name, partitions, topic.retention_bytes, 0, created, asked, deleted)


def _carried(moments: list[tuple[int, int | None, int]], position: int) -> list[tuple[int, int | None, int]]:
    return [(0, 0 if _by(known, position) else None, what) for asked, known, what in moments if asked <= position]


def _broken_log_start(where, topic, promises, log_start, records, position) -> list[str]:
    known = max((offset for _, known, offset in promises.log_starts if _by(known, position)), default=0)
    asked = max((offset for asked, _, offset in promises.log_starts if asked <= position), default=0)
    if log_start < known:
        return [f"{where}: begins at {log_start}; everything below {known} was deleted"]
    if log_start > asked and topic.retention_bytes is None:
        return [f"{where}: begins at {log_start}; only what is below {asked} was to be deleted"]
    there = sum(map(len, filter(None, records)))
    if log_start > asked and there < topic.retention_bytes // 2:
        return [f"{where}: begins at {log_start} with {there} bytes; retention leaves {topic.retention_bytes}"]
    return []


def _broken_records(where, name, index, promises, log_start, records, position) -> list[str]:
    end = log_start + len(records)
    promised = max((offset + 1 for offset, (_, known) in promises.records.items() if known <= position), default=0)
    if end < promised:
        return [f"{where}: ends at {end}; everything below {promised} was acknowledged"]
    # Of a compacted topic a record goes only if one that is there has its key and is a later one.
    keys = set()
    for offset, record in reversed(list(enumerate(records, log_start))):
        of_key = key(name, index, offset)
        if record is not None:
            keys.add(of_key)
        elif of_key not in keys - {None} and not _may_be_lost(promises, offset, position):
            return [f"{where}: offset {offset} has no record"]
    for offset, record in enumerate(records, log_start):
        if record is None:
            continue
        author = author_of(record, name, index, offset)
        if author is None:
            return [f"{where}: offset {offset} holds {record[:60]!r}, which is not what was sent there"]
        if any(at <= position and end <= offset and author in gone for at, end, gone in promises.found_ends):
            return [f"{where}: offset {offset} holds {author}'s record, which was gone"]
        known = promises.records.get(offset)
        if known and known[1] <= position and known[0] != author:
            return [f"{where}: offset {offset} was acknowledged to {known[0]} and holds {author}'s record"]
    return []


def _may_be_lost(promises: PartitionPromises, offset: int, position: int) -> bool:
    return any(asked <= position and first <= offset < end for asked, first, end, _ in promises.damaged)
