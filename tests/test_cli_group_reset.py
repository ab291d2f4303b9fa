"""`highwater group reset`: a dry run first, Kafka's ways of saying where to, and a refusal while members are active."""

import json
import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from harness.admin import TIMEOUT_S, admin, create_topic
from harness.broker import wait_until
from harness.clients import new_group

# The records' times: one a second from here.
START_MS = 1_600_000_000_000


@pytest.fixture
def filled(either, topic):
    """A topic of two partitions with 20 records each, of which the first 5 of partition 0 are deleted."""
    create_topic(either.bootstrap, topic, 2, {"retention.ms": -1})
    producer = Producer({"bootstrap.servers": either.bootstrap, "acks": "all", "linger.ms": 0})
    for number in range(20):
        for partition in range(2):
            producer.produce(topic, b"%d" % number, partition=partition, timestamp=START_MS + number * 1000)
    assert producer.flush(TIMEOUT_S) == 0
    place = TopicPartition(topic, 0, 5)
    admin(either.bootstrap).delete_records([place])[place].result(TIMEOUT_S)
    return topic


def reset(broker, group, *arguments, status=0):
    """What a reset would do or did: new offset and note by partition."""
    result = broker.cli(
        "group", "--bootstrap", broker.bootstrap, "reset", group, "--format", "json", *arguments, check=False
    )
    assert result.returncode == status, result.stderr.decode()
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return {(row["topic"], row["partition"]): row for row in rows}, result.stderr.decode()


def new_offsets(broker, group, *arguments) -> list[int]:
    rows, _ = reset(broker, group, *arguments)
    return [rows[place]["new_offset"] for place in sorted(rows)]


def committed(broker, group, topic) -> list[int]:
    """What a client finds committed, -1001 for nothing."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    places = consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=TIMEOUT_S)
    consumer.close()
    return [place.offset for place in places]


def commit(broker, group, topic, offsets) -> None:
    """Commits as a consumer that assigns itself its partitions: no member, ever."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group, "enable.auto.commit": False})
    places = [TopicPartition(topic, partition, offset) for partition, offset in enumerate(offsets)]
    assert not any(place.error for place in consumer.commit(offsets=places, asynchronous=False))
    consumer.close()


def test_a_dry_run_changes_nothing_and_execute_does(either, filled):
    """Without --execute a reset shows old and new; with it, a client finds the new ones."""
    group = new_group()
    commit(either, group, filled, [10, 12])
    rows, said = reset(either, group, "--topic", filled, "--to", "first")
    assert [(row["old_offset"], row["new_offset"]) for _, row in sorted(rows.items())] == [(10, 5), (12, 0)]
    assert "dry run" in said and not any(row["committed"] for row in rows.values())
    assert committed(either, group, filled) == [10, 12]
    rows, _ = reset(either, group, "--topic", filled, "--to", "first", "--execute")
    assert all(row["committed"] for row in rows.values())
    assert committed(either, group, filled) == [5, 0]


def test_every_way_to_say_where(either, filled):
    """Offset, ends, time, duration, shift and current; what is outside of the log is moved into it, and said."""
    group = new_group()
    commit(either, group, filled, [10, 12])
    both = ("--topic", filled)
    assert new_offsets(either, group, *both, "--to-offset", 7) == [7, 7]
    rows, _ = reset(either, group, *both, "--to-offset", 2)
    assert [rows[filled, partition]["new_offset"] for partition in range(2)] == [5, 2]
    assert "before the first" in rows[filled, 0]["note"] and rows[filled, 1]["note"] is None
    rows, _ = reset(either, group, *both, "--to-offset", 1000)
    assert all(row["new_offset"] == 20 and "behind the end" in row["note"] for row in rows.values())
    assert new_offsets(either, group, *both, "--to-earliest") == [5, 0]
    assert new_offsets(either, group, *both, "--to-latest") == [20, 20]
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START_MS / 1000 + 8))
    for written in (f"{at}Z", f"{at}.000", at):
        assert new_offsets(either, group, *both, "--to-datetime", written) == [8, 8]
    # All records are older than an hour: the end.
    assert new_offsets(either, group, *both, "--by-duration", "PT1H") == [20, 20]
    assert new_offsets(either, group, *both, "--by-duration", "9000d") == [5, 0]
    assert new_offsets(either, group, *both, "--shift-by", 3) == [13, 15]
    assert new_offsets(either, group, *both, "--shift-by", -8) == [5, 4]
    assert new_offsets(either, group, *both, "--to-current") == [10, 12]
    assert new_offsets(either, group, "--topic", f"{filled}:1", "--to-offset", 7) == [7]
    assert new_offsets(either, group, "--all-topics", "--to-offset", 7) == [7, 7]
    fresh = new_group()
    assert new_offsets(either, fresh, *both, "--to-current") == [20, 20]
    _, said = reset(either, fresh, *both, "--shift-by", 3, status=1)
    assert "committed nothing" in said
    _, said = reset(either, group, "--topic", f"{filled}:0,2", "--to", "first", status=1)
    assert "partitions 0 to 1" in said
    _, said = reset(either, group, "--topic", f"{filled}-no", "--to", "first", status=1)
    assert "topic list" in said
    reset(either, group, *both, status=2)
    reset(either, group, *both, "--to-latest", "--to-earliest", status=2)
    reset(either, group, "--to-latest", status=2)


def test_what_is_exported_is_taken_back(either, filled, tmp_path):
    """The CSV of one run is the file of another, and a group that does not exist is made by it."""
    group, copy = new_group(), new_group()
    commit(either, group, filled, [10, 12])
    csv = either.cli(
        "group", "--bootstrap", either.bootstrap, "reset", group, "--all-topics", "--to-current", "--format", "csv"
    ).stdout
    assert csv.decode().splitlines() == [f"{filled},0,10", f"{filled},1,12"]
    file = tmp_path / "offsets.csv"
    file.write_bytes(csv)
    reset(either, copy, "--from-file", file, "--execute")
    assert committed(either, copy, filled) == [10, 12]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_refused_while_members_are_active(either, filled, protocol):
    """A group with a member is not reset, the member is named, nothing changes; when it has left, the reset is done."""
    group = new_group()
    settings = {
        "bootstrap.servers": either.bootstrap, "group.id": group, "client.id": "the-one-in-the-way",
        "enable.auto.commit": False, "auto.offset.reset": "earliest", "group.protocol": protocol,
    }  # fmt: skip
    if protocol == "classic":
        settings |= {"session.timeout.ms": 30_000}
    consumer = Consumer(settings)
    consumer.subscribe([filled])
    record = wait_until(lambda: consumer.poll(0.2), "a record")
    assert not record.error()
    wait_until(lambda: consumer.poll(0.1) is None or len(consumer.assignment()) == 2, "the whole assignment")
    consumer.commit(
        offsets=[TopicPartition(filled, 0, 10), TopicPartition(filled, 1, 12)], asynchronous=False
    )
    for execute in ([], ["--execute"]):
        rows, said = reset(either, group, "--topic", filled, "--to-offset", 7, *execute, status=1)
        assert "the-one-in-the-way" in said and "members" in said
        assert not any(row["committed"] for row in rows.values())
    consumer.close()
    assert committed(either, group, filled) == [10, 12]
    # A member that has left may be counted for a moment more.
    describe = ("group", "--bootstrap", either.bootstrap, "describe", group)
    wait_until(lambda: b" 0 members" in either.cli(*describe, check=False).stdout, "the group is empty")
    reset(either, group, "--topic", filled, "--to-offset", 7, "--execute")
    assert committed(either, group, filled) == [7, 7]
