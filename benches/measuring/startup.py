"""What a start and a recovery take, of any broker, as a client sees it."""

import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from harness.admin import create_topic
from harness.broker import Broker

# Clients would wait between their attempts to connect for longer than what is measured.
EAGER = {
    "reconnect.backoff.ms": 1,
    "reconnect.backoff.max.ms": 2,
    "log_level": 0,
    "socket.connection.setup.timeout.ms": 5000,
}


def first_produce(broker: Broker) -> float:
    """From the start of the process to the first record acknowledged with acks=all, in ms.

    The client exists already and retries without a pause, so that it adds little of its own.
    """
    errors = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "linger.ms": 0, **EAGER})
    started = time.monotonic()
    broker.start(wait=False)
    producer.produce("first", b"record", on_delivery=lambda error, _: error and errors.append(error))
    left = producer.flush(60)
    took = milliseconds(time.monotonic() - started)
    if left or errors:
        raise SystemExit(f"the first record was not acknowledged: {errors}\n{broker.log_tail()}")
    return took


def fetch_after_kill(broker: Broker, gib: float) -> tuple[float, float]:
    """With this much data and a kill -9 under load: from the start to the first record fetched, and to the last, in ms.

    "Last" is the newest record before the end, so that the recovered tail itself has been served.
    """
    broker.start()
    create_topic(broker.bootstrap, "data", 1)
    _fill_and_kill(broker, gib)
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "figures", **EAGER})
    started = time.monotonic()
    broker.start(wait=False)
    first = _fetched_at(consumer, 0) - started
    end = None
    while end is None:
        try:
            end = consumer.get_watermark_offsets(TopicPartition("data", 0), 5)[1]
        except KafkaException:
            continue
    last = _fetched_at(consumer, end - 1) - started
    consumer.close()
    return milliseconds(first), milliseconds(last)


def _fill_and_kill(broker: Broker, gib: float) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "1", "linger.ms": 5, "batch.size": 900_000,
                         "queue.buffering.max.kbytes": 256 << 10, **EAGER})  # fmt: skip
    value = bytes(range(256)) * 256
    for _ in range(int(gib * (1 << 30) / len(value))):
        while True:
            try:
                producer.produce("data", value, partition=0)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(120):
        raise SystemExit(f"the broker does not take the data\n{broker.log_tail()}")
    for _ in range(500):
        producer.produce("data", value, partition=0)
    producer.poll(0.05)
    broker.kill()


def _fetched_at(consumer: Consumer, offset: int) -> float:
    """When the record at this offset was there."""
    consumer.assign([TopicPartition("data", 0, offset)])
    while True:
        message = consumer.poll(0.01)
        if message and not message.error() and message.offset() == offset:
            return time.monotonic()


def milliseconds(seconds: float) -> float:
    """Seconds in milliseconds."""
    return seconds * 1000
