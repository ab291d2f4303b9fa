"""`highwater replay`: a range of a topic into another topic, another cluster, or a file that `produce` reads back."""

import json
import re
import signal
import subprocess

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from harness.admin import TIMEOUT_S, create_topic
from harness.broker import Highwater, end_with_parent, wait_until
from harness.clients import new_group

START_MS = 1_600_000_000_000
KEEP = {"retention.ms": -1}


def produce(broker, topic: str, records, **settings) -> None:
    """Sends (partition, key, value, headers, timestamp) as they are."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, **settings})
    for partition, key, value, headers, timestamp in records:
        producer.produce(topic, value, key, partition, timestamp=timestamp, headers=headers)
    assert producer.flush(TIMEOUT_S) == 0


def read(broker, topic: str, partitions: int) -> list[list[tuple]]:
    """Everything committed, by partition: key, value, headers and timestamp, as librdkafka sees them."""
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": new_group(), "enable.partition.eof": True,
         "auto.offset.reset": "earliest"}
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    found, ended = [[] for _ in range(partitions)], set()
    while len(ended) < partitions:
        message = consumer.poll(TIMEOUT_S)
        assert message is not None
        if message.error():
            ended.add(message.partition())
        else:
            record = (message.key(), message.value(), message.headers(), message.timestamp()[1])
            found[message.partition()].append(record)
    consumer.close()
    return found


def strange(rng, count: int, partitions: int) -> list[tuple]:
    """Records with everything that gets lost easily: nulls, empty ones, bytes that are no text, repeated headers."""
    texts = [None, b"", b"plain", "ünïcode \\ \"".encode(), b"\xff\x00\xfe", b"line\nline\r\n\t"]
    records = []
    for number in range(count):
        headers = [(rng.choice(["a", "b", "ü"]), rng.choice(texts)) for _ in range(rng.randrange(4))]
        value = rng.choice([*texts, rng.randbytes(rng.randrange(2000))])
        records.append((number % partitions, rng.choice(texts), value, headers or None, START_MS + number * 1000))
    return records


def replay(broker, *arguments, status: int = 0) -> subprocess.CompletedProcess:
    result = broker.cli("replay", "--bootstrap", broker.bootstrap, *arguments, check=False)
    assert result.returncode == status, result.stderr.decode()
    return result


@pytest.fixture
def filled(either, topic, rng):
    """A topic of three partitions with 300 strange records."""
    create_topic(either.bootstrap, topic, 3, KEEP)
    produce(either, topic, strange(rng, 300, 3))
    return topic


def test_a_copy_is_the_same(either, filled):
    """Keys, values, headers, times, partitions and order."""
    copy = f"{filled}-copy"
    create_topic(either.bootstrap, copy, 3, KEEP)
    result = replay(either, filled, "--into", copy, "--compression", "zstd", "--format", "json")
    told = json.loads(result.stdout)
    assert told["complete"] and told["records"] == 300 and set(told["next"].values()) == {100}
    assert read(either, copy, 3) == read(either, filled, 3)


def test_into_another_cluster(broker, apache_kafka, topic, rng):
    """From Highwater to Apache Kafka and back."""
    create_topic(broker.bootstrap, topic, 2, KEEP)
    produce(broker, topic, strange(rng, 100, 2))
    create_topic(apache_kafka.bootstrap, topic, 2, KEEP)
    replay(broker, topic, "--into", topic, "--into-bootstrap", apache_kafka.bootstrap)
    back = f"{topic}-back"
    create_topic(broker.bootstrap, back, 2, KEEP)
    replay(apache_kafka, topic, "--into", back, "--into-bootstrap", broker.bootstrap)
    assert read(broker, back, 2) == read(apache_kafka, topic, 2) == read(broker, topic, 2)


def test_a_file_comes_back_as_it_was(either, filled, tmp_path):
    """What `replay --into-file` writes, `produce --format record` reads; and `consume --format json` is the same."""
    file, copy = tmp_path / "records.ndjson", f"{filled}-copy"
    replay(either, filled, "--into-file", file)
    create_topic(either.bootstrap, copy, 3, KEEP)
    either.cli("produce", copy, file, "--format", "record", "--bootstrap", either.bootstrap)
    assert read(either, copy, 3) == read(either, filled, 3)
    consumed = either.cli("consume", filled, "--format", "json", "--bootstrap", either.bootstrap).stdout
    assert sorted(consumed.splitlines()) == sorted(file.read_bytes().splitlines())
    assert "there already" in replay(either, filled, "--into-file", file, status=1).stderr.decode()
    by_key = f"{filled}-by-key"
    create_topic(either.bootstrap, by_key, 2, KEEP)
    either.cli(
        "produce", by_key, "-", "--format", "record", "--repartition", "--bootstrap", either.bootstrap,
        stdin=file.read_bytes(),
    )  # fmt: skip
    assert sum(map(len, read(either, by_key, 2))) == 300


def test_ranges(either, filled):
    """By offset, by time, by partition; the range's end is not copied."""
    everything = read(either, filled, 3)

    def copied(*arguments) -> list[list[tuple]]:
        copied.number += 1
        copy = f"{filled}-{copied.number}"
        create_topic(either.bootstrap, copy, 3, KEEP)
        replay(either, *arguments, "--into", copy)
        return read(either, copy, 3)

    copied.number = 0
    assert copied(filled, "--from", 10, "--to", 25) == [records[10:25] for records in everything]
    assert copied(f"{filled}:0,2", "--from", 90) == [everything[0][90:], [], everything[2][90:]]
    between = copied(filled, "--from", f"@{START_MS + 30_000}", "--to", f"@{START_MS + 60_000}")
    assert between == [
        [record for record in records if START_MS + 30_000 <= record[3] < START_MS + 60_000] for records in everything
    ]
    assert copied(filled, "--from", "last") == [[], [], []]


def test_what_is_refused(either, filled):
    """A copy onto itself, a target that is not there or has too few partitions."""
    assert "onto itself" in replay(either, filled, "--into", filled, status=1).stderr.decode()
    again = replay(either, filled, "--into", filled, "--into-bootstrap", either.bootstrap, status=1)
    assert "onto itself" in again.stderr.decode()
    missing = replay(either, filled, "--into", f"{filled}-no", status=1)
    assert "highwater topic create" in missing.stderr.decode()
    small = f"{filled}-small"
    create_topic(either.bootstrap, small, 2, KEEP)
    assert "--by-key" in replay(either, filled, "--into", small, status=1).stderr.decode()
    replay(either, filled, "--into", small, "--by-key")
    assert sum(map(len, read(either, small, 2))) == 300
    replay(either, filled, status=2)


def test_a_target_that_would_delete_the_copy(either, filled):
    """Old records into a topic that deletes old records: said before it happens."""
    copy = f"{filled}-copy"
    create_topic(either.bootstrap, copy, 3, {"retention.ms": 86_400_000})
    assert "retention.ms" in replay(either, filled, "--into", copy).stderr.decode()


def test_aborted_transactions_stay_behind(either, topic):
    """What was aborted is no record of the copy, unless that is asked for."""
    create_topic(either.bootstrap, topic, 1, KEEP)
    producer = Producer({"bootstrap.servers": either.bootstrap, "transactional.id": topic})
    producer.init_transactions(TIMEOUT_S)
    for number in range(6):
        producer.begin_transaction()
        producer.produce(topic, b"%d" % number, partition=0, timestamp=START_MS)
        # An abort takes back what has not gone out yet.
        assert producer.flush(TIMEOUT_S) == 0
        if number % 2:
            producer.abort_transaction(TIMEOUT_S)
        else:
            producer.commit_transaction(TIMEOUT_S)
    for isolation, expected in (("read-committed", "024"), ("read-uncommitted", "012345")):
        copy = f"{topic}-{isolation}"
        create_topic(either.bootstrap, copy, 1, KEEP)
        # A commit is answered when it is decided, and seen when its markers are written.
        wait_until(
            lambda: replay(either, topic, "--into-file", "-", "-q").stdout.count(b"\n") == 3, "the markers are written"
        )
        result = replay(either, topic, "--into", copy, "--isolation", isolation, "--format", "json")
        assert json.loads(result.stdout)["complete"]
        assert [record[1].decode() for record in read(either, copy, 1)[0]] == list(expected)


@pytest.mark.parametrize("rate", [("--records-per-second", 200), ("--bytes-per-second", 2000)])
def test_it_goes_no_faster_than_it_may(either, topic, rate):
    """300 records of 10 bytes at 200 records a second, or 2,000 bytes a second, take 1.5 seconds, and not 1.3."""
    create_topic(either.bootstrap, topic, 1, KEEP)
    produce(either, topic, [(0, None, b"0123456789", None, START_MS)] * 300)
    result = replay(either, topic, "--into-file", "-", "--quiet", *rate)
    assert result.stdout.count(b"\n") == 300
    create_topic(either.bootstrap, f"{topic}-copy", 1, KEEP)
    told = json.loads(replay(either, topic, "--into", f"{topic}-copy", "--format", "json", *rate).stdout)
    assert told["seconds"] >= 1.3


def under_way(broker, topic: str, copy: str, *arguments, per_second: int = 100) -> subprocess.Popen:
    """Starts a slow replay, and returns when records of it have arrived."""
    before = count(broker, copy)
    command = [str(Highwater.binary()), "replay", "--bootstrap", broker.bootstrap, topic, "--into", copy,
               "--records-per-second", str(per_second), *map(str, arguments)]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=end_with_parent)
    wait_until(lambda: count(broker, copy) > before + 5 or process.poll() is not None, "records of the copy")
    return process


def count(broker, topic: str) -> int:
    """Records in the three partitions of a topic."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": new_group()})
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, number), TIMEOUT_S)[1] for number in range(3)]
    consumer.close()
    return sum(ends)


def interrupted(broker, topic: str, copy: str, *arguments) -> str:
    """Sends SIGINT to a replay that is under way, and returns what it said."""
    # All of the copy takes twelve seconds, so that it is not over before the signal comes.
    process = under_way(broker, topic, copy, *arguments, per_second=25)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said.decode()
    return said.decode()


@pytest.mark.parametrize("way", ["state", "resume"])
def test_an_interrupted_copy_goes_on_where_it_stopped(either, filled, tmp_path, way):
    """Ended by SIGINT over and over: the copy is the same in the end, nothing twice and nothing missing."""
    copy = f"{filled}-copy"
    create_topic(either.bootstrap, copy, 3, KEEP)
    state = tmp_path / "state"
    where = ["--state", state] if way == "state" else []
    for _ in range(2):
        said = interrupted(either, filled, copy, *where)
        assert "stopped before" in said
        if way == "resume":
            where = ["--resume", re.search(r"--resume (\S+)", said)[1]]
    assert 0 < count(either, copy) < 300
    replay(either, filled, "--into", copy, *where)
    assert read(either, copy, 3) == read(either, filled, 3)
    if way == "state":
        told = json.loads(replay(either, filled, "--into", copy, *where, "--format", "json").stdout)
        assert told["complete"] and told["records"] == 0
        other = replay(either, f"{filled}:0", "--into-file", tmp_path / "elsewhere", *where, status=1)
        assert "name another file" in other.stderr.decode()


@pytest.mark.highwater_only("a broker of its own, killed")
def test_a_broker_that_is_killed_doubles_nothing(start_broker, topic, rng):
    """kill -9 while a copy is under way: requests are repeated, records are not."""
    broker = start_broker()
    create_topic(broker.bootstrap, topic, 3, KEEP)
    produce(broker, topic, strange(rng, 600, 3))
    copy = f"{topic}-copy"
    create_topic(broker.bootstrap, copy, 3, KEEP)
    process = under_way(broker, topic, copy)
    for _ in range(2):
        broker.kill()
        broker.start()
        before = count(broker, copy)
        wait_until(lambda: count(broker, copy) > before + 5 or process.poll() is not None, "more of the copy")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()
    assert read(broker, copy, 3) == read(broker, topic, 3)
