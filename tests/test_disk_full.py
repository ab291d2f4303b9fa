"""A disk that fills up fails produce, and nothing else, until there is room again.

Each disk is a file system of its own, a few hundred megabytes large, with a ballast file that stands for whatever else
takes the room. Mounting needs root.
"""

import errno
import os
import subprocess
import time
from pathlib import Path

import pytest
import requests
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from harness.admin import create_topic
from harness.broker import Broker, wait_until
from harness.ledger import PERSISTENT, Reader, Stream, read_all

MIB = 1 << 20
DISK_BYTES = 256 * MIB
BALLAST_BYTES = 96 * MIB
MESSAGE_BYTES = 100_000
# The default of group_reserve_bytes.
GROUP_RESERVE_BYTES = MIB

pytestmark = pytest.mark.highwater_only("Kafka ends when its disk is full")


class Disk:
    """A small file system with a ballast file on it."""

    def __init__(self, directory: Path, kind: str):
        self.path = directory / "disk"
        self.path.mkdir()
        source = "tmpfs"
        options = f"size={DISK_BYTES}"
        if kind == "ext4":
            source = directory / "disk.image"
            with source.open("wb") as image:
                image.truncate(DISK_BYTES)
            made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", source], capture_output=True, text=True)
            assert made.returncode == 0, made.stderr
            options = "loop"
        mounted = subprocess.run(
            ["mount", "-t", kind, "-o", options, source, self.path], capture_output=True, text=True
        )
        if mounted.returncode != 0:
            pytest.skip(f"cannot mount a {kind}: {mounted.stderr.strip()}")
        self.ballast = self.path / "ballast"
        with self.ballast.open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, BALLAST_BYTES)

    def free_bytes(self) -> int:
        """What is left for the broker."""
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def fill(self) -> None:
        """Takes every last block."""
        for size in (MIB, 4096):
            try:
                with (self.path / "filler").open("ab", buffering=0) as filler:
                    while filler.write(b"\xff" * size):
                        pass
            except OSError as error:
                assert error.errno == errno.ENOSPC, error

    def give_back(self) -> None:
        """Makes room: the ballast goes, and what `fill` took."""
        self.ballast.unlink()
        (self.path / "filler").unlink(missing_ok=True)

    def unmount(self) -> None:
        """Takes the file system away."""
        subprocess.run(["umount", "--lazy", self.path], check=True)


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path):
    """A disk of each kind. Name it before start_broker, so that the broker is gone when it is unmounted."""
    disk = Disk(tmp_path, request.param)
    yield disk
    disk.unmount()


def produce_until_refused(broker: Broker, topic: str) -> tuple[Stream, KafkaError]:
    """Sends one message after the other, without retries, until one is refused."""
    stream = Stream(broker.bootstrap, topic, idempotent=False, retries=0)
    for _ in range(2 * DISK_BYTES // MESSAGE_BYTES):
        stream.send(padding=MESSAGE_BYTES)
        assert stream.producer.flush(60) == 0
        if stream.errors:
            (error,) = stream.errors
            # The refused number is not in the log: the next one is it again.
            stream.sent[0] -= 1
            return stream, error
    raise AssertionError("the disk does not fill up")


def metric(broker: Broker, name: str) -> float:
    """The value of a metric without labels."""
    text = requests.get(f"{broker.http}/metrics", timeout=30).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("reserve", ["default", "none"])
def test_full_and_healed(disk, start_broker, topic, reserve):
    """Produce fails with a retriable error, fetch and commits go on, and with room produce resumes; no restart.

    With the default reserve produce stops before the disk is full; with none it runs into the last block, which
    must end as well, except that there may be no room for commits.
    """
    settings = {} if reserve == "default" else {"disk_free_hard_bytes": 1}
    broker = start_broker(settings, data_dir=disk.path / "data")
    process = broker.process.pid
    for name in (topic, f"{topic}-waiting"):
        create_topic(broker.bootstrap, name)
    reader = Reader(broker.bootstrap, topic)
    first = Stream(broker.bootstrap, topic, idempotent=False)
    first.send()
    first.flush()
    reader.read_to([1])
    reader.commit()

    stream, error = produce_until_refused(broker, topic)
    assert error.code() == KafkaError.KAFKA_STORAGE_ERROR, error
    assert broker.is_running()
    acknowledged = stream.count_acknowledged()
    assert acknowledged > 100, "there was room for more"
    if reserve == "default":
        # Half of the reserve, which is 32 MiB, is kept however fast it goes.
        assert disk.free_bytes() >= 15 * MIB, "the reserve was used up"
        wait_until(lambda: metric(broker, "highwater_disk_full") == 1, "the metric says so")

    # Producers that keep trying, as librdkafka does of itself.
    waiting = Stream(broker.bootstrap, f"{topic}-waiting", idempotent=True)
    for _ in range(50):
        waiting.send(padding=MESSAGE_BYTES)

    # Meanwhile everything that was acknowledged is served, and groups commit.
    reader.read_to([1 + acknowledged])
    if reserve == "default":
        for offset in range(1, 1 + acknowledged):
            reader.commit([offset])
        assert reader.committed() == [acknowledged]
        waiting.producer.poll(1)
        assert waiting.count_acknowledged() == 0
    assert not waiting.errors

    disk.give_back()
    waiting.flush()
    again = Stream(broker.bootstrap, topic, idempotent=False)
    again.send()
    again.flush()
    reader.commit()
    assert broker.process.pid == process and broker.is_running()
    if reserve == "default":
        assert metric(broker, "highwater_disk_full") == 0

    def check() -> None:
        waiting.check(read_all(broker.bootstrap, waiting))
        everything = Reader(broker.bootstrap, topic)
        everything.read_to([2 + acknowledged])
        numbers = [record.number for record in everything.records[0]]
        assert numbers == [0, *range(acknowledged), 0]
        everything.close()
        assert reader.committed() == [1 + acknowledged]

    check()
    broker.kill()
    broker.start()
    check()
    reader.close()


def test_start_on_a_full_disk(disk, start_broker, topic):
    """A broker that is killed while the disk has no block left starts again, serves what it has, and heals."""
    broker = start_broker({"disk_free_hard_bytes": 1}, data_dir=disk.path / "data")
    create_topic(broker.bootstrap, topic)
    stream, _ = produce_until_refused(broker, topic)
    disk.fill()
    broker.kill()
    broker.start()
    stream.check(read_all(broker.bootstrap, stream))
    disk.give_back()
    again = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", **PERSISTENT})
    errors = []
    again.produce(topic, b"%d:" % stream.count_acknowledged(), on_delivery=lambda error, _: errors.append(error))
    assert again.flush(60) == 0 and errors == [None]
    stream.check(read_all(broker.bootstrap, stream))
    assert broker.stop() == 0
    broker.start()
    stream.check(read_all(broker.bootstrap, stream))


def timed_batches(broker: Broker, topic: str, ages_hours: list[float]) -> None:
    """Sends a message of 100 kB for each age, with the time of that long ago."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "linger.ms": 0, **PERSISTENT})
    errors = []
    for age in ages_hours:
        sent_ms = int((time.time() - age * 3600) * 1000)
        producer.produce(topic, os.urandom(MESSAGE_BYTES), timestamp=sent_ms, on_delivery=lambda e, _: errors.append(e))
        assert producer.flush(60) == 0
    assert errors == [None] * len(ages_hours)


def bytes_of_offsets(broker: Broker) -> list[int]:
    """What the logs that committed offsets are in take of the disk, written to or not."""
    logs = (broker.data_dir / "topics").glob("__consumer_offsets-*/*.log")
    return [512 * log.stat().st_blocks for log in logs]


def test_commits_go_on_when_others_have_filled_the_disk(disk, start_broker, topic):
    """Not a block is left, and none of it was Highwater's doing: commits go on all the same."""
    broker = start_broker(data_dir=disk.path / "data")
    create_topic(broker.bootstrap, topic)
    first = Stream(broker.bootstrap, topic, idempotent=False)
    for _ in range(10):
        first.send()
    first.flush()
    reader = Reader(broker.bootstrap, topic)
    reader.read_to([10])
    reader.commit([1])
    # The room that is kept for commits is made a while after the topic that holds them.
    wait_until(lambda: min(bytes_of_offsets(broker)) >= GROUP_RESERVE_BYTES, "the room for commits is made")
    disk.fill()
    assert disk.free_bytes() < MIB
    wait_until(lambda: metric(broker, "highwater_disk_full") == 1, "the metric says so")
    for number in range(2000):
        reader.commit([number % 10 + 1])
    reader.commit([7])
    assert reader.committed() == [7]
    refused = Stream(broker.bootstrap, topic, idempotent=False, retries=0)
    refused.send()
    refused.producer.flush(60)
    assert [error.code() for error in refused.errors] == [KafkaError.KAFKA_STORAGE_ERROR]

    again = Stream(broker.bootstrap, topic, idempotent=False)
    # What counts is how long the broker takes, not how long a client takes to connect.
    again.producer.list_topics(timeout=60)
    disk.give_back()
    freed = time.monotonic()
    again.send()
    again.flush()
    assert time.monotonic() - freed < 5, "produce resumes within five seconds of space"
    broker.kill()
    broker.start()
    assert reader.committed() == [7]
    reader.close()


def test_old_segments_go_before_their_time(disk, start_broker):
    """Below the soft limit the alarm is on, and what would have expired next goes, no more than is needed."""
    disk.ballast.unlink()
    broker = start_broker(
        {
            "disk_free_soft_bytes": 100 * MIB,
            "disk_free_hard_bytes": 16 * MIB,
            "space_retention_floor_ms": 3_600_000,
            "group_reserve_bytes": 0,
        },
        data_dir=disk.path / "data",
    )
    hour_ms = 3_600_000
    segment = {"segment.bytes": str(4 * MIB), "segment.ms": str(1000 * hour_ms)}
    kept = {**segment, "retention.ms": "-1"}
    topics = {
        "soon": {**segment, "retention.ms": str(60 * hour_ms)},
        "later": {**segment, "retention.ms": str(1000 * hour_ms)},
        "unlimited": {**kept, "retention.bytes": "-1"},
        "by-size": {**kept, "retention.bytes": str(1 << 40)},
    }
    for name, config in topics.items():
        create_topic(broker.bootstrap, name, config=config)
    per_topic = 130

    def starts() -> dict[str, int]:
        client = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "starts"})
        lows = {name: client.get_watermark_offsets(TopicPartition(name, 0), timeout=30)[0] for name in topics}
        client.close()
        return lows

    # The first consumer has the topic of the groups made, which takes room too.
    assert starts() == dict.fromkeys(topics, 0)
    for name in topics:
        timed_batches(broker, name, [50.0] * (per_topic - 1) + [0.0])
    assert metric(broker, "highwater_disk_low") == 0 and starts() == dict.fromkeys(topics, 0)

    # Less than is missing than all old segments of the topic that expires first have.
    taken = disk.free_bytes() - 100 * MIB + 6 * MIB
    with (disk.path / "foreign").open("wb") as foreign:
        os.posix_fallocate(foreign.fileno(), 0, taken)
    wait_until(lambda: metric(broker, "highwater_space_deleted_segments_total") > 0, "segments go")
    wait_until(lambda: metric(broker, "highwater_disk_low") == 0, "the alarm is off")
    assert disk.free_bytes() >= 100 * MIB
    lows = starts()
    assert lows["soon"] > 0 and lows["later"] == lows["unlimited"] == lows["by-size"] == 0
    assert metric(broker, "highwater_space_deleted_segments_total") == 2, "6 MiB are two segments"

    # More than may be deleted: the alarm stays on, and what nobody limited in time stays whole.
    with (disk.path / "foreign").open("r+b") as foreign:
        os.posix_fallocate(foreign.fileno(), 0, taken + 40 * MIB)
    wait_until(lambda: starts()["later"] > 0, "the other topic's segments go next")
    wait_until(lambda: metric(broker, "highwater_disk_low") == 1, "the alarm is on")
    lows = starts()
    assert lows["unlimited"] == lows["by-size"] == 0
    assert 0 < lows["soon"] < per_topic and 0 < lows["later"] < per_topic, "the active segments stay"
    assert metric(broker, "highwater_disk_full") == 0
    (disk.path / "foreign").unlink()
    wait_until(lambda: metric(broker, "highwater_disk_low") == 0, "the alarm is off")
