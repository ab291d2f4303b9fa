"""`highwater doctor`: what it finds wrong with a machine and with what is in a broker, and that it says what to change."""

import json
import os
import socket
import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from harness.admin import TIMEOUT_S, create_topic
from harness.clients import new_group


def doctor(broker, *arguments, status: int | None = None) -> dict[str, dict]:
    """What was found, by the name of the check."""
    http = getattr(broker, "http", "http://127.0.0.1:1").removeprefix("http://")
    result = broker.cli(
        "doctor", "--bootstrap", broker.bootstrap, "--http", http, "--format", "json", *arguments, check=False
    )
    checks = {}
    for line in result.stdout.splitlines():
        check = json.loads(line)
        assert (check["advice"] is None) == (check["status"] in ("ok", "skipped")), check
        checks[check["name"]] = check
    failed = any(check["status"] == "fail" for check in checks.values())
    assert result.returncode == (int(failed) if status is None else status), result.stderr.decode()
    return checks


def produce(broker, topic: str, value: bytes = b"x", count: int = 1, **fields) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "queue.buffering.max.messages": 200_000})
    for _ in range(count):
        producer.produce(topic, value, **fields)
        producer.poll(0)
    assert producer.flush(TIMEOUT_S) == 0


def test_the_machine(broker, tmp_path):
    """Disk, limits and clock are told; nothing is left in the directory."""
    checks = doctor(broker, "--only", "machine", "--data-dir", tmp_path / "not" / "yet")
    assert {"data directory", "file system", "mount options", "free space", "sync", "open files", "memory maps"} | {
        "clock steps", "clock synchronization", "free files", "memory", "swap", "huge pages"
    } <= set(checks)  # fmt: skip
    assert checks["memory"]["status"] in ("ok", "warn") and "available" in checks["memory"]["found"]
    assert "will be created" in checks["data directory"]["found"]
    assert "median" in checks["sync"]["found"]
    assert list(tmp_path.iterdir()) == []
    shown = broker.cli("doctor", "--only", "machine", "--data-dir", tmp_path, check=False).stdout.decode()
    assert shown.startswith("CHECK") and "open files" in shown


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no tmpfs at /dev/shm")
def test_memory_is_no_disk(broker):
    """A data directory on tmpfs fails."""
    checks = doctor(broker, "--only", "machine", "--data-dir", "/dev/shm/highwater-doctor-test")
    assert checks["file system"]["status"] == "fail" and "disk" in checks["file system"]["advice"]


def test_a_broker_that_is_well(start_broker):
    """Nothing to say about a fresh broker, and of Highwater its clock, its disk and that it is ready."""
    broker = start_broker()
    create_topic(broker.bootstrap, "fine", 2)
    produce(broker, "fine")
    checks = doctor(broker, "--only", "broker")
    for name in ("round trip", "advertised address", "partitions", "record times", "balance", "transactions", "groups"):
        # A machine that is busy answers late.
        assert checks[name]["status"] == "ok" or name == "round trip", checks[name]
    if broker.kind == "highwater":
        assert checks["http"]["status"] == checks["clock skew"]["status"] == "ok"
        assert checks["broker's disk"]["status"] in ("ok", "warn", "fail")
    else:
        assert checks["http"]["status"] == "warn"


def test_what_is_in_a_broker(either, topic):
    """Times in the future and long past, a group that nobody reads for, a partition that holds nearly all."""
    now_ms = int(time.time() * 1000)
    # Kafka refuses times in the future unless it is told to take them.
    future = {"message.timestamp.after.max.ms": 2**62}
    create_topic(either.bootstrap, f"{topic}-future", 1, future)
    produce(either, f"{topic}-future", timestamp=now_ms + 86_400_000)
    checks = doctor(either, "--only", "broker")
    assert checks["record times"]["status"] == "warn" and f"{topic}-future" in checks["record times"]["found"]
    group = new_group()
    consumer = Consumer({"bootstrap.servers": either.bootstrap, "group.id": group, "enable.auto.commit": False})
    consumer.commit(offsets=[TopicPartition(f"{topic}-future", 0, 0)], asynchronous=False)
    consumer.close()
    create_topic(either.bootstrap, f"{topic}-skewed", 3)
    produce(either, f"{topic}-skewed", b"", 100_001, partition=1)
    checks = doctor(either, "--only", "broker")
    assert checks["groups"]["status"] == "warn" and f"{group} (1 records)" in checks["groups"]["found"]
    assert checks["balance"]["status"] == "warn" and f"{topic}-skewed-1 (100 %)" in checks["balance"]["found"]
    doctor(either, "--only", "broker", "--strict", status=1)


def test_old_records_and_old_transactions(start_broker, topic):
    """Records that are older than their topic keeps, and a transaction that has been open for an hour."""
    broker = start_broker({"log.retention.check.interval.ms": 3_600_000, "log.retention.ms": 7 * 86_400_000})
    now_ms = int(time.time() * 1000)
    create_topic(broker.bootstrap, f"{topic}-old", 1)
    produce(broker, f"{topic}-old", timestamp=now_ms - 30 * 86_400_000)
    create_topic(broker.bootstrap, topic, 1)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": topic})
    producer.init_transactions(TIMEOUT_S)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0, timestamp=now_ms - 3_600_000)
    assert producer.flush(TIMEOUT_S) == 0
    checks = doctor(broker, "--only", "broker")
    assert f"{topic}-old" in checks["record times"]["found"] and "retention.ms" in checks["record times"]["advice"]
    assert checks["transactions"]["status"] == "warn" and f"{topic}-0 since" in checks["transactions"]["found"]
    producer.abort_transaction(TIMEOUT_S)


@pytest.mark.highwater_only("--advertise and --http are Highwater's")
def test_an_address_that_nobody_reaches(start_broker, broker):
    """A broker that tells clients an address where nothing listens, and one that does not run."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{closed.getsockname()[1]}"
        wrong = start_broker({"advertise": nowhere})
        checks = doctor(wrong, "--only", "broker", status=1)
        assert checks["advertised address"]["status"] == "fail"
        assert "--advertise" in checks["advertised address"]["advice"] and nowhere in checks["advertised address"]["found"]
        wrong.stop()
        checks = doctor(wrong, "--only", "broker", status=1)
        assert checks["broker"]["status"] == "fail" and "highwater serve" in checks["broker"]["advice"]
        assert checks["http"]["status"] == "warn" and "--http" in checks["http"]["advice"]
