"""One failed sync takes the data directory offline: nothing more is acknowledged, what was durable is still served.

The device is the real one; a library that is loaded into the broker lets one fdatasync of a segment answer EIO.
"""

import subprocess
from pathlib import Path

import pytest
import requests
from confluent_kafka import Consumer, Producer, TopicPartition

from harness.admin import create_topic
from harness.broker import Highwater
from harness.clients import new_group
from harness.exposition import value

KAFKA_STORAGE_ERROR = 56


class FailingHighwater(Highwater):
    """Highwater whose next sync of a segment fails once `trigger` exists."""

    library: Path
    trigger: Path

    def _environment(self):
        return {**super()._environment(), "LD_PRELOAD": str(self.library), "FAIL_SYNC_WHEN": str(self.trigger)}


@pytest.fixture
def failing(tmp_path, request):
    """A broker whose disk is healthy until the trigger is touched."""
    broker = FailingHighwater(tmp_path / "broker", {})
    broker.library, broker.trigger = tmp_path / "failing_sync.so", tmp_path / "fail"
    source = Path(__file__).resolve().parent / "harness" / "failing_sync.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", broker.library, source, "-ldl"], check=True)
    yield broker.start()
    broker.discard()


def produce(broker, topic, value: bytes, acks: str = "all") -> int:
    """Produces one record without retries; the error code that it is answered with."""
    answers = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": acks, "retries": 0, "linger.ms": 0})
    producer.produce(topic, value, on_delivery=lambda error, _: answers.append(error.code() if error else 0))
    assert producer.flush(30) == 0
    return answers[0]


def produce_until_it_fails(broker, topic) -> int:
    """Produces one record after the other, has a sync fail once that has a thread of its own; how that is answered."""
    answers = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "retries": 0, "linger.ms": 0})
    while not answers or answers[-1] == 0:
        if len(answers) % 16 == 0 and value(broker, "highwater_connections_on_lanes") == 1:
            broker.trigger.touch()
        producer.produce(topic, b"value", on_delivery=lambda error, _: answers.append(error.code() if error else 0))
        assert producer.flush(30) == 0
    return answers[-1]


def values(broker, topic) -> tuple[list[bytes], int]:
    """What a consumer sees of partition 0, and its high watermark."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": new_group()})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), 30)
        consumer.assign([TopicPartition(topic, 0, 0)])
        read = []
        while len(read) < end:
            message = consumer.poll(30)
            assert message is not None and message.error() is None, message and message.error()
            read.append(message.value())
        return read, end
    finally:
        consumer.close()


@pytest.mark.highwater_only("Kafka does not sync before it acknowledges")
def test_one_failed_sync_takes_the_directory_offline(failing, topic):
    """The waiter fails, and so do all after it; readers keep what was durable; a restart serves again."""
    create_topic(failing.bootstrap, topic)
    assert produce(failing, topic, b"durable") == 0

    failing.trigger.touch()
    assert produce(failing, topic, b"in doubt") == KAFKA_STORAGE_ERROR
    assert not failing.trigger.exists(), "no sync has failed"
    # Every sync would succeed from here on. It must not be believed.
    for acks in ("all", "1"):
        assert produce(failing, topic, b"too late", acks) == KAFKA_STORAGE_ERROR

    assert values(failing, topic) == ([b"durable"], 1)
    ready = requests.get(f"{failing.http}/readyz", timeout=10)
    assert ready.status_code == 503 and "sync" in ready.text, ready.text
    assert requests.get(f"{failing.http}/healthz", timeout=10).status_code == 200
    assert ".log" in failing.log_tail() and "offline" in failing.log_tail()

    failing.stop()
    assert not (failing.data_dir / "clean-shutdown").exists(), "a directory in doubt passes for cleanly closed"
    failing.start()
    assert values(failing, topic)[0][0] == b"durable"
    assert produce(failing, topic, b"after") == 0
    read, _ = values(failing, topic)
    assert read[0] == b"durable" and read[-1] == b"after" and b"too late" not in read


@pytest.mark.highwater_only("Kafka does not sync before it acknowledges")
def test_who_syncs_on_a_thread_of_his_own_learns_that_it_failed(failing, topic):
    """A producer with one request in flight is answered by the thread that syncs for it alone."""
    create_topic(failing.bootstrap, topic)
    assert produce_until_it_fails(failing, topic) == KAFKA_STORAGE_ERROR
    assert not failing.trigger.exists(), "no sync has failed"
    assert produce(failing, topic, b"too late") == KAFKA_STORAGE_ERROR
