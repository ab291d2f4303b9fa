"""Everything that a broker shows to its clients: topics, records, log starts, committed offsets."""

import time
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from .ledger import Found

TIMEOUT_S = 30
_CLIENT = {"enable.auto.commit": False, "log_level": 0, "reconnect.backoff.ms": 5, "reconnect.backoff.max.ms": 50,
           "fetch.wait.max.ms": 5, "check.crcs": True}  # fmt: skip


class Unreadable(Exception):
    """The broker refuses to show what it has; the message has its words."""


def survey(bootstrap: str, data_dir: Path, commits) -> Found:
    """Reads it all. `commits` are the keys of the ledger's commits: group, topic, partition."""
    found = Found()
    found.quarantined = {path.name: path.read_bytes() for path in data_dir.glob("quarantine/*")}
    groups = {}
    for group, topic, partition in commits:
        groups.setdefault(group, []).append(TopicPartition(topic, partition))
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "survey", "auto.offset.reset": "earliest",
                         "enable.partition.eof": True, **_CLIENT})  # fmt: skip
    try:
        topics = consumer.list_topics(timeout=TIMEOUT_S).topics
        for name, topic in topics.items():
            if not name.startswith("__"):
                found.topics[name] = [(0, [])] * len(topic.partitions)
        _read(consumer, found)
    except KafkaException as error:
        raise Unreadable(str(error)) from error
    finally:
        consumer.close()
    for group, places in groups.items():
        for place in _committed(bootstrap, group, places):
            found.committed[(group, place.topic, place.partition)] = place.offset if place.offset >= 0 else -1
    return found


def _read(consumer: Consumer, found: Found) -> None:
    unread = {(name, index) for name, partitions in found.topics.items() for index in range(len(partitions))}
    records = {place: [] for place in unread}
    starts = {}
    consumer.assign([TopicPartition(name, index, OFFSET_BEGINNING) for name, index in sorted(unread)])
    deadline = time.monotonic() + TIMEOUT_S
    while unread:
        for message in consumer.consume(1000, 0.05):
            place = (message.topic(), message.partition())
            if message.error() and message.error().code() != KafkaError._PARTITION_EOF:
                raise Unreadable(f"{place}: {message.error()}")
            offset = message.offset()
            due = starts.get(place, 0) + len(records[place])
            if offset < due:
                raise Unreadable(f"{place[0]}-{place[1]}: offset {offset} comes where {due} was due")
            low = consumer.get_watermark_offsets(TopicPartition(*place), TIMEOUT_S)[0] if offset > due else 0
            if low > due:
                # The log begins here, or retention has deleted what was to be read next.
                starts[place] = due = min(low, offset)
                records[place].clear()
            records[place] += [None] * (offset - due)
            if message.error():
                unread.discard(place)
            else:
                records[place].append(message.value())
        if time.monotonic() > deadline:
            raise Unreadable(f"no end of {sorted(unread)} within {TIMEOUT_S} s")
    for name, partitions in found.topics.items():
        places = [(name, index) for index in range(len(partitions))]
        found.topics[name] = [(starts.get(place, 0), records[place]) for place in places]


def _committed(bootstrap: str, group: str, places: list[TopicPartition]) -> list[TopicPartition]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, **_CLIENT})
    try:
        answered = consumer.committed(places, TIMEOUT_S)
    except KafkaException as error:
        raise Unreadable(f"offsets of {group}: {error}") from error
    finally:
        consumer.close()
    for place in answered:
        if place.error:
            raise Unreadable(f"offsets of {group}: {place.error}")
    return answered
