"""Damage to what is at rest: it is found, never served, and given up only when an operator says so."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import requests
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from harness.admin import create_topic
from harness.broker import Broker, wait_until
from harness.ledger import PERSISTENT

pytestmark = pytest.mark.highwater_only("the files are Highwater's")

MESSAGES = 400
VALUE_BYTES = 1000


def value(number: int) -> bytes:
    """What message `number` says: its number, again and again."""
    return (b"%08d|" % number * 200)[:VALUE_BYTES]


def produce(broker: Broker, topic: str, numbers: range) -> list:
    """Sends one message after the other, each a batch of its own, and returns the errors."""
    settings = {"bootstrap.servers": broker.bootstrap, "acks": "all", "retries": 0, "message.timeout.ms": 20_000}
    producer = Producer({**settings, "batch.num.messages": 1, **PERSISTENT})
    errors = []
    for number in numbers:
        producer.produce(topic, value(number), partition=0, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(60) == 0
    return [error.code() for error in errors if error]


def consume(broker: Broker, topic: str, start: int, end: int) -> tuple[dict[int, bytes], int | None]:
    """Values by offset from `start` on, until `end` or the first error that is not a passing one, and that."""
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": f"reader-{start}", "check.crcs": True}
    consumer = Consumer({**settings, "enable.auto.commit": False, "log_level": 0})
    consumer.assign([TopicPartition(topic, 0, start)])
    values: dict[int, bytes] = {}
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error():
                return values, message.error().code()
            if message is not None:
                values[message.offset()] = message.value()
            if consumer.position([TopicPartition(topic, 0)])[0].offset >= end:
                return values, None
    finally:
        consumer.close()
    raise AssertionError(f"neither offset {end} nor an error, from {start}: {len(values)} values")


def highwater(broker: Broker, *arguments: str) -> tuple[int, list[dict]]:
    """Runs a subcommand on the broker's directory; its exit status and the objects that it prints."""
    command = [broker.binary(), *arguments, "--data-dir", broker.data_dir, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def metrics(broker: Broker) -> str:
    """All metrics."""
    return requests.get(f"{broker.http}/metrics", timeout=30).text


def sealed_segment(broker: Broker, topic: str) -> Path:
    """The second of the segments."""
    segments = sorted((broker.data_dir / "topics" / f"{topic}-0").glob("*.log"))
    assert len(segments) > 4
    return segments[1]


def flip(path: Path, number: int) -> int:
    """Flips a bit in the value of message `number` and returns where."""
    content = path.read_bytes()
    at = content.index(b"%08d|" % number) + 500
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([content[at] ^ 0x20]))
    return at


@pytest.fixture
def damaged(start_broker, topic):
    """Starts a broker with a topic of several segments. Answers with it, a segment, and a message in its middle."""

    def start(settings: dict | None = None):
        broker = start_broker(settings)
        create_topic(broker.bootstrap, topic, config={"segment.bytes": 50_000})
        assert produce(broker, topic, range(MESSAGES)) == []
        segment = sealed_segment(broker, topic)
        return broker, segment, int(segment.stem) + 10

    return start


def check_served(broker: Broker, topic: str, hole: int) -> None:
    """What is sound is served on both sides of the hole, and nothing across it."""
    before, error = consume(broker, topic, 0, MESSAGES)
    assert error == KafkaError.INVALID_MSG, "the hole is an error"
    assert before == {number: value(number) for number in range(hole)}, "everything up to it is served"
    behind, error = consume(broker, topic, hole + 1, MESSAGES)
    assert error is None and behind == {number: value(number) for number in range(hole + 1, MESSAGES)}
    assert produce(broker, topic, range(1)) != [], "the partition takes no writes"


def test_damage_while_stopped_is_found_and_skipped_on_demand(damaged, topic):
    """verify names it, fetch refuses it, repair shows it, and gives it up when told to."""
    broker, segment, hole = damaged({"scrub_period_ms": 0})
    assert broker.stop() == 0
    assert highwater(broker, "verify")[0] == 0
    flip(segment, hole)

    status, found = highwater(broker, "verify")
    damage = [finding for finding in found if finding.get("severity") == "damage"]
    assert status == 1 and len(damage) == 1
    assert damage[0]["file"].endswith(segment.name) and damage[0]["offsets"] == [hole, hole + 1]

    broker.start()
    check_served(broker, topic, hole)
    assert f'highwater_partition_read_only{{topic="{topic}",partition="0"}} 1' in metrics(broker)
    assert highwater(broker, "repair")[0] == 2, "not while the broker runs"
    broker.stop()

    before = segment.read_bytes()
    status, shown = highwater(broker, "repair")
    assert status == 1 and [(hole_["first_offset"], hole_["last_offset"]) for hole_ in shown] == [(hole, hole)]
    assert segment.read_bytes() == before, "to look changes nothing"
    usage = subprocess.run([broker.binary(), "repair", "--skip-holes"], capture_output=True, timeout=60)
    assert usage.returncode == 2, "what is given up has to be named"

    status, told = highwater(broker, "repair", f"{topic}-0", "--skip-holes")
    assert status == 0 and told[0]["action"] == "skipped"
    loss = told[0]["loss"]
    assert (loss["first_offset"], loss["last_offset"], loss["done"]) == (hole, hole, True)
    assert b"%08d|" % hole in (broker.data_dir / loss["quarantined"]).read_bytes()
    assert json.loads((segment.parent / "losses.json").read_text())["losses"] == [loss]
    status, found = highwater(broker, "verify")
    assert status == 0 and [finding["loss"] for finding in found if finding.get("severity") == "lost"] == [loss]
    assert highwater(broker, "dump", f"{topic}-0")[1][0]["losses"] == [loss]

    broker.start()
    values, error = consume(broker, topic, 0, MESSAGES)
    assert error is None and values == {number: value(number) for number in range(MESSAGES) if number != hole}
    values, error = consume(broker, topic, hole, MESSAGES)
    assert error is None and min(values) == hole + 1, "a fetch of what was skipped goes on behind it"
    assert produce(broker, topic, range(MESSAGES, MESSAGES + 10)) == []
    text = metrics(broker)
    assert f'highwater_partition_lost_offsets{{topic="{topic}",partition="0"}} 1' in text
    assert "highwater_partition_read_only{" not in text


def test_damage_while_running_is_found_by_the_scrub(damaged, topic):
    """Nobody reads, and yet it is found, named in the log, in the metrics and over HTTP; nothing of it is served."""
    broker, segment, hole = damaged({"scrub_period_ms": 300})
    at = flip(segment, hole)
    wait_until(lambda: "highwater_scrub_holes{" in metrics(broker), "the scrub finds it")
    found = requests.get(f"{broker.http}/api/v1/scrub", timeout=30).json()["holes"]
    assert [(one["topic"], one["partition"], one["first_offset"], one["last_offset"]) for one in found] == [
        (topic, 0, hole, hole)
    ]
    assert found[0]["file"].endswith(segment.name)
    assert found[0]["position"] <= at < found[0]["position"] + found[0]["bytes"]
    assert "the scrub has found damage" in broker.log_path.read_text() and segment.name in broker.log_path.read_text()
    check_served(broker, topic, hole)
    assert broker.is_running()


def test_damage_after_it_was_read_is_not_served(damaged, topic):
    """What has been read and checked once is checked again when it is read again."""
    broker, segment, hole = damaged({"scrub_period_ms": 0})
    values, error = consume(broker, topic, 0, MESSAGES)
    assert error is None and len(values) == MESSAGES
    flip(segment, hole)
    check_served(broker, topic, hole)


def test_a_file_that_is_cut_under_the_writer_is_named_before_the_process_dies(start_broker, topic):
    """SIGBUS: nothing may be acknowledged that a page without a disk has taken. The next start finds what is missing."""
    broker = start_broker()
    create_topic(broker.bootstrap, topic)
    assert produce(broker, topic, range(3)) == []
    # Where the checkpoint is.
    broker.stop()
    broker.start()
    assert produce(broker, topic, range(3, 4)) == []
    (segment,) = (broker.data_dir / "topics" / f"{topic}-0").glob("*.log")
    os.truncate(segment, 0)
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 20_000, "retries": 0, "log_level": 0}
    )
    acknowledged = []
    producer.produce(topic, value(4), on_delivery=lambda error, _: acknowledged.append(error is None))
    assert broker.wait_stopped() == -signal.SIGBUS
    producer.flush(60)
    assert acknowledged == [False]
    said = re.search(rf"^SIGBUS at byte (\d+) of {re.escape(str(segment))}: .*$", broker.log_tail(), re.MULTILINE)
    assert said and int(said[1]) > 4 * VALUE_BYTES, broker.log_tail()
    broker.start()
    assert produce(broker, topic, range(4, 5)) != [], "what is missing is noticed"
    assert f'highwater_partition_read_only{{topic="{topic}",partition="0"}} 1' in metrics(broker)
