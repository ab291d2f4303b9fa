"""`highwater top`: one look as tables for scripts, a live view on a terminal, and a clear word where neither works."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from harness.admin import TIMEOUT_S, create_topic
from harness.broker import Highwater, end_with_parent, wait_until
from harness.clients import new_group

pytestmark = pytest.mark.highwater_only("top reads Highwater's HTTP API")


def address(broker) -> str:
    return broker.http.removeprefix("http://")


@pytest.fixture
def behind(broker, topic):
    """A topic with 30 records and a group that has consumed 10 of them."""
    create_topic(broker.bootstrap, topic, 2)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(30):
        producer.produce(topic, b"x", partition=1)
    assert producer.flush(TIMEOUT_S) == 0
    group = new_group()
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group, "enable.auto.commit": False})
    consumer.commit(offsets=[TopicPartition(topic, 1, 10)], asynchronous=False)
    consumer.close()
    return topic, group


def test_one_look(broker, behind):
    """The topic with its records, the group with its lag, and the broker's own numbers."""
    topic, group = behind

    def look() -> str:
        return broker.cli("top", "--once", "--http", address(broker)).stdout.decode()

    # Lag is sampled from time to time.
    shown = wait_until(lambda: (text := look()) and re.search(rf"^{group} +20 ", text, re.MULTILINE) and text, "the lag")
    assert re.search(rf"^{re.escape(topic)} .* 2 +30 +", shown, re.MULTILINE), shown
    assert re.search(r"^in \S+ records/s, .*; disk .* free of .*; memory", shown, re.MULTILINE), shown
    found = json.loads(broker.cli("top", "--once", "--format", "json", "--http", address(broker)).stdout)
    assert found["broker"]["disk"]["free_bytes"] > 0 and found["broker"]["memory"]["resident_bytes"] > 0
    (of_topic,) = [it for it in found["topics"] if it["topic"] == topic]
    assert of_topic["partitions"] == 2 and of_topic["records"] == 30
    (of_group,) = [it for it in found["groups"] if it["group"] == group]
    assert of_group["lag_records"] == 20
    filtered = broker.cli("top", "--once", "--http", address(broker), "--filter", "no-such-name").stdout.decode()
    assert topic not in filtered and group not in filtered
    filtered = broker.cli(
        "top", "--once", "--format", "json", "--http", address(broker), "--filter", "no-such-name"
    ).stdout
    assert [json.loads(filtered)[name] for name in ("topics", "partitions", "groups")] == [[], [], []]
    refused = broker.cli("top", "--format", "json", "--http", address(broker), check=False)
    assert refused.returncode == 2 and b"--once" in refused.stderr


def test_without_a_terminal_or_http(broker):
    """No terminal: --once. No HTTP: where it is looked for, and how to turn it on."""
    refused = broker.cli("top", "--http", address(broker), check=False)
    assert refused.returncode == 1 and b"--once" in refused.stderr
    refused = broker.cli("top", "--once", "--http", "127.0.0.1:1", check=False)
    assert refused.returncode == 1 and b"--http" in refused.stderr


def test_on_a_terminal(broker, behind):
    """The topic and the group come up; q ends it and gives the terminal back as it was."""
    topic, group = behind
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    before = termios.tcgetattr(slave)
    command = [str(Highwater.binary()), "top", "--http", address(broker), "--interval", "1", "--filter", topic]
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=end_with_parent, env={**os.environ, "TERM": "xterm"}
    )
    os.set_blocking(master, False)
    seen = bytearray()

    def shows(what: bytes) -> bool:
        try:
            seen.extend(os.read(master, 65536))
        except BlockingIOError:
            pass
        return what in seen

    wait_until(lambda: shows(topic.encode()), "the topic")
    wait_until(lambda: shows(f"{topic}-1".encode()), "its partition")
    os.write(master, b"q")
    # What is left has to be read, else the process waits to write it.
    wait_until(lambda: shows(b"\x1b[?1049l") and process.poll() is not None, "the end")
    assert process.returncode == 0
    assert termios.tcgetattr(slave) == before
    os.close(slave)
    os.close(master)
