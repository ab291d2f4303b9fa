"""What the broker has promised, each promise with the position of the disk's journal at which it was known.

A promise that is known at a position holds in every image of a power cut at that position or later. What was only
asked for may or may not be in an image: from the position before it was asked on, both are right.
"""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

PADDING_MAX = 1200


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
    """What a broker on an image answers. Partitions are (log start, records from there to the high watermark)."""

    topics: dict[str, list[tuple[int, list[bytes]]]] = field(default_factory=dict)
    committed: dict[tuple[str, str, int], int] = field(default_factory=dict)


class Ledger:
    """All promises of one disk."""

    def __init__(self):
        # By name: the topics that had it, the oldest first.
        self.topics: dict[str, list[TopicPromises]] = {}
        # By group, topic and partition: the position before it was asked for, the one when it was known, the offset.
        self.commits: dict[tuple[str, str, int], list[tuple[int, int | None, int]]] = {}

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

    def carried_over(self, position: int) -> "Ledger":
        """What a cut at `position` leaves of it: the promises that the next life begins with, at its position 0."""
        carried = Ledger()
        for name, topics in self.topics.items():
            begun = [topic for topic in topics if topic.create_asked <= position]
            carried.topics[name] = [_carried_topic(topic, position) for topic in begun]
        carried.commits = {key: _carried(commits, position) for key, commits in self.commits.items()}
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
                    self.record_known(name, index, offset, author_of(record, name, index, offset), position)
        for key, offset in found.committed.items():
            if offset >= 0:
                self.committed(key, position, position, offset)

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
        partitions.append(PartitionPromises(records, _carried(partition.log_starts, position)))
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
    if log_start > asked and sum(map(len, records)) < topic.retention_bytes // 2:
        return [f"{where}: begins at {log_start} with {sum(map(len, records))} bytes; "
                f"retention leaves {topic.retention_bytes}"]  # fmt: skip
    return []


def _broken_records(where, name, index, promises, log_start, records, position) -> list[str]:
    end = log_start + len(records)
    promised = max((offset + 1 for offset, (_, known) in promises.records.items() if known <= position), default=0)
    if end < promised:
        return [f"{where}: ends at {end}; everything below {promised} was acknowledged"]
    for offset, record in enumerate(records, log_start):
        author = author_of(record, name, index, offset)
        if author is None:
            return [f"{where}: offset {offset} holds {record[:60]!r}, which is not what was sent there"]
        known = promises.records.get(offset)
        if known and known[1] <= position and known[0] != author:
            return [f"{where}: offset {offset} was acknowledged to {known[0]} and holds {author}'s record"]
    return []
