"""What a broker says whose disk has failed: nothing more is promised, not even when the disk is well again."""

import time

import requests
from confluent_kafka import Producer

from .ledger import key, value

OFFLINE_TIMEOUT_S = 60


def _impatient_producer(life) -> Producer:
    """One that tries nothing twice: after a refusal nobody knows where the next record goes."""
    return Producer({"bootstrap.servers": life.broker.bootstrap, "acks": "all", "retries": 0, "linger.ms": 0,
                     "message.timeout.ms": 15_000, "log_level": 0})  # fmt: skip


def produce_until_refused(life) -> int:
    """One record after the other to each partition, until each has refused one; how many were acknowledged."""
    producer = _impatient_producer(life)
    left, acknowledged = dict(life.ends), 0

    def send(name: str, partition: int, number: int) -> None:
        author = life.authors[name]

        def delivered(error, message) -> None:
            nonlocal acknowledged
            del left[(name, partition)]
            if error is None:
                assert message.offset() == number, f"{name}-{partition}: {number} went to offset {message.offset()}"
                life.ledger.record_known(name, partition, number, author, life.position)
                acknowledged += 1
                left[(name, partition)] = number + 1
                sendable.append((name, partition))

        producer.produce(name, value(author, name, partition, number), key(name, partition, number), partition,
                         on_delivery=delivered)  # fmt: skip

    sendable = list(left)
    deadline = time.monotonic() + OFFLINE_TIMEOUT_S
    while left and life.broker.is_running():
        while sendable:
            place = sendable.pop()
            send(*place, left[place])
        producer.poll(0.05)
        assert time.monotonic() < deadline, f"after {life.disk.state.faults()} EIO, {list(left)} still take records"
    producer.purge()
    return acknowledged


def offline(life) -> list[str]:
    """Whether the broker says that it is offline, and why."""
    ready = requests.get(f"{life.broker.http}/readyz", timeout=10)
    if ready.status_code == 503 and "offline" in ready.text:
        return []
    return [f"records are refused, and /readyz says {ready.status_code} {ready.text[:200]!r}"]


def acknowledged_too_late(life) -> list[str]:
    """The disk is well again, and nothing of what it says may be believed."""
    producer = _impatient_producer(life)
    wrong = []

    def delivered(error, message) -> None:
        if error is None:
            wrong.append(f"{message.topic()}-{message.partition()} acknowledges {message.offset()} after a failed sync")

    for name, partition in life.ends:
        producer.produce(name, b"too late", b"too late", partition, on_delivery=delivered)
    if producer.flush(30) != 0:
        wrong.append("records are neither taken nor refused")
    return wrong
