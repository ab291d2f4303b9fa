"""What every client sends comes back byte by byte, whatever the codec, the acknowledgement and the shape of a record."""

import time

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from harness import clients
from harness.admin import create_topic
from harness.broker import wait_until
from harness.clients import CODECS, Confluent
from harness.records import Message, assert_contiguous, assert_same

BY_NAME = {client.name: client for client in clients.ALL}


@pytest.fixture(params=BY_NAME)
def client(request):
    """Each client in turn."""
    return BY_NAME[request.param]


def varied_messages(rng, client, count=300, partitions=2) -> list[Message]:
    """Messages of every shape that the client can send: null and empty keys and values, headers, sizes."""
    messages = []
    for number in range(count):
        value = bytes(rng.choices(b"abcdefgh", k=rng.choice([1, 10, 100, 3000])))
        headers = [(f"h{i}", rng.randbytes(rng.randrange(20))) for i in range(rng.randrange(4))]
        if number % 10 == 0 and client.null_headers:
            headers.append(("null", None))
        if number % 7 == 0 and client.repeated_headers:
            headers += [("again", b"1"), ("again", b"2")]
        key = rng.choice([None, b"", b"k%d" % number])
        value = None if number % 11 == 0 else b"" if number % 13 == 0 else value
        if key is None and value is None and not client.empty_records:
            key = b"tombstone"
        messages.append(
            Message(
                key=key,
                value=value,
                timestamp=1_700_000_000_000 + number,
                partition=number % partitions,
                headers=headers,
            )
        )
    return messages


@pytest.mark.parametrize("codec", CODECS)
def test_round_trip(broker, topic, client, codec, rng):
    """Own consumer and librdkafka's read what the client wrote with this codec."""
    create_topic(broker.bootstrap, topic, 2)
    messages = varied_messages(rng, client)
    client.produce(broker.bootstrap, topic, messages, codec)
    assert_same(client.consume(broker.bootstrap, topic, len(messages)), messages)
    assert_same(Confluent().consume(broker.bootstrap, topic, len(messages)), messages)


def test_reads_what_others_wrote(broker, topic, client, rng):
    """One topic written with every codec by librdkafka and by Java is read by each client."""
    create_topic(broker.bootstrap, topic, 2)
    sent = []
    for codec in CODECS:
        for writer in (BY_NAME["confluent-kafka"], BY_NAME["java"]):
            messages = varied_messages(rng, client, 40)
            writer.produce(broker.bootstrap, topic, messages, codec)
            sent += messages
    assert_same(client.consume(broker.bootstrap, topic, len(sent)), sent)


@pytest.mark.parametrize("acks", [0, 1, -1])
def test_acks(broker, topic, client, acks):
    """Each kind of acknowledgement delivers everything, once."""
    create_topic(broker.bootstrap, topic)
    messages = [Message(value=b"%d" % number) for number in range(500)]
    client.produce(broker.bootstrap, topic, messages, acks=acks)
    assert_same(Confluent().consume(broker.bootstrap, topic, len(messages)), messages)


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_large_records(broker, topic, client, codec, rng):
    """Records of 900 KB, just under the default limit, that no codec makes smaller."""
    create_topic(broker.bootstrap, topic)
    messages = [Message(value=rng.randbytes(900_000)) for _ in range(3)]
    for message in messages:
        client.produce(broker.bootstrap, topic, [message], codec)
    assert_same(client.consume(broker.bootstrap, topic, len(messages)), messages)


def test_message_too_large(broker, topic):
    """A batch above max.message.bytes is refused with MESSAGE_TOO_LARGE and leaves no trace."""
    create_topic(broker.bootstrap, topic, config={"max.message.bytes": 10_000})
    errors = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0})
    producer.produce(topic, b"x" * 20_000, on_delivery=lambda error, _: errors.append(error and error.code()))
    assert producer.flush(30) == 0
    producer.produce(topic, b"small", on_delivery=lambda error, _: errors.append(error and error.code()))
    assert producer.flush(30) == 0
    assert errors == [KafkaError.MSG_SIZE_TOO_LARGE, None]
    assert [record.value for record in Confluent().consume(broker.bootstrap, topic, 1)] == [b"small"]


def test_idempotent_producer(broker, topic):
    """An idempotent producer with five requests in flight keeps its order."""
    create_topic(broker.bootstrap, topic, 3)
    errors = []
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, "linger.ms": 1, "batch.num.messages": 20}
    )
    messages = [Message(value=b"%d" % number, partition=number % 3) for number in range(5000)]
    for message in messages:
        producer.produce(
            topic, message.value, partition=message.partition, timestamp=message.timestamp,
            on_delivery=lambda error, _: error and errors.append(error),
        )  # fmt: skip
        producer.poll(0)
    assert producer.flush(30) == 0 and not errors
    assert_same(Confluent().consume(broker.bootstrap, topic, len(messages)), messages)


def consumer_of(broker, **settings) -> Consumer:
    """A consumer that is told what to read."""
    return Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": clients.new_group(), "enable.partition.eof": True, **settings}
    )


def test_empty_topic(broker, topic):
    """A topic without records: begins and ends at 0, tells the end of the partition, has no offset for any time."""
    create_topic(broker.bootstrap, topic)
    consumer = consumer_of(broker)
    partition = TopicPartition(topic, 0)
    assert consumer.get_watermark_offsets(partition, 10) == (0, 0)
    assert consumer.offsets_for_times([TopicPartition(topic, 0, 1)], 10)[0].offset == -1
    consumer.assign([TopicPartition(topic, 0, 0)])
    message = consumer.poll(30)
    assert message.error().code() == KafkaError._PARTITION_EOF
    consumer.close()


def test_seek_by_time(broker, topic):
    """For a time the first record that is not older is found, also between two records, before all and after all."""
    create_topic(broker.bootstrap, topic)
    base = 1_600_000_000_000
    Confluent().produce(
        broker.bootstrap, topic, [Message(value=b"%d" % number, timestamp=base + 10 * number) for number in range(2000)]
    )
    consumer = consumer_of(broker)

    def offset_at(time_ms: int) -> int:
        return consumer.offsets_for_times([TopicPartition(topic, 0, time_ms)], 10)[0].offset

    assert offset_at(0) == 0
    assert offset_at(base) == 0
    assert offset_at(base + 1) == 1
    for number in (1, 7, 999, 1000, 1998, 1999):
        assert offset_at(base + 10 * number) == number
        assert offset_at(base + 10 * number - 9) == number
    assert offset_at(base + 10 * 1999 + 1) == -1
    consumer.assign([TopicPartition(topic, 0, offset_at(base + 5000))])
    assert consumer.poll(30).value() == b"500"
    consumer.close()


def test_times_out_of_order(broker, topic):
    """Timestamps that go back and forth: the first record, by offset, that is not older than the time."""
    create_topic(broker.bootstrap, topic)
    times = [5000, 1000, 7000, 2000, 7000, 9000, 3000]
    Confluent().produce(broker.bootstrap, topic, [Message(value=b"v", timestamp=time) for time in times])
    consumer = consumer_of(broker)
    for time_ms in range(500, 10_000, 500):
        expected = next((offset for offset, time in enumerate(times) if time >= time_ms), -1)
        found = consumer.offsets_for_times([TopicPartition(topic, 0, time_ms)], 10)[0].offset
        assert found == expected, f"time {time_ms}"
    consumer.close()


def test_offset_out_of_range(broker, topic):
    """Reading from beyond the end follows auto.offset.reset; with "error" it is an error."""
    create_topic(broker.bootstrap, topic)
    Confluent().produce(broker.bootstrap, topic, [Message(value=b"%d" % number) for number in range(10)])
    consumer = consumer_of(broker, **{"auto.offset.reset": "error", "enable.partition.eof": False})
    consumer.assign([TopicPartition(topic, 0, 11)])
    message = consumer.poll(30)
    assert message.error().code() == KafkaError._AUTO_OFFSET_RESET
    consumer.close()
    consumer = consumer_of(broker, **{"auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, 0, 11)])
    assert consumer.poll(30).value() == b"0"
    consumer.close()


def test_read_starts_inside_a_batch(broker, topic):
    """A consumer may start at any offset of a batch and gets nothing from before it."""
    create_topic(broker.bootstrap, topic)
    Confluent().produce(broker.bootstrap, topic, [Message(value=b"%d" % number) for number in range(100)], "lz4")
    consumer = consumer_of(broker)
    for start in (0, 1, 50, 98, 99):
        consumer.assign([TopicPartition(topic, 0, start)])
        assert [m.value() for m in consumer.consume(100 - start, 30)] == [b"%d" % n for n in range(start, 100)]
    consumer.close()


def test_log_append_time(broker, topic):
    """message.timestamp.type=LogAppendTime: records carry the broker's time, never going back, whatever was sent."""
    create_topic(broker.bootstrap, topic, config={"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    for codec in CODECS:
        Confluent().produce(broker.bootstrap, topic, [Message(value=b"v", timestamp=1000) for _ in range(20)], codec)
    after = int(time.time() * 1000)
    consumer = consumer_of(broker)
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = consumer.consume(100, 30)
    assert len(messages) == 100
    kinds = {message.timestamp()[0] for message in messages}
    times = [message.timestamp()[1] for message in messages]
    assert kinds == {2}, "TIMESTAMP_LOG_APPEND_TIME"
    assert times == sorted(times) and before <= times[0] and times[-1] <= after
    consumer.close()


def test_long_poll_wakes_up(broker, topic):
    """A consumer that waits at the end gets a record as soon as it is written, not at the end of its wait."""
    create_topic(broker.bootstrap, topic)
    consumer = consumer_of(broker, **{"fetch.wait.max.ms": 20_000, "socket.timeout.ms": 60_000})
    consumer.assign([TopicPartition(topic, 0, 0)])
    assert consumer.poll(30).error().code() == KafkaError._PARTITION_EOF
    started = time.monotonic()
    Confluent().produce(broker.bootstrap, topic, [Message(value=b"now")])
    assert consumer.poll(30).value() == b"now"
    assert time.monotonic() - started < 15, "waited for the long poll to end"
    consumer.close()


def test_headers_keep_their_order(broker, topic):
    """Headers are a list, not a map: order and repetition stay."""
    create_topic(broker.bootstrap, topic)
    headers = [("b", b"1"), ("a", b"2"), ("b", b"3"), ("", b""), ("ü", None)]
    Confluent().produce(broker.bootstrap, topic, [Message(value=b"v", headers=headers)])
    (record,) = Confluent().consume(broker.bootstrap, topic, 1)
    assert list(record.headers) == headers


def test_unknown_partition_is_refused(broker, topic):
    """Producing to a partition that does not exist fails, and the topic stays as it is."""
    create_topic(broker.bootstrap, topic, 1)
    errors = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 30_000})
    try:
        producer.produce(topic, b"v", partition=7, on_delivery=lambda error, _: errors.append(error.code()))
        producer.flush(60)
    except KafkaException as error:
        errors.append(error.args[0].code())
    assert errors == [KafkaError._UNKNOWN_PARTITION]


def test_two_producers_interleave(broker, topic):
    """Two producers to one partition: each keeps its own order and the offsets have no hole."""
    create_topic(broker.bootstrap, topic)
    producers = [
        Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, "linger.ms": 0}) for _ in range(2)
    ]
    for number in range(1000):
        for name, producer in enumerate(producers):
            producer.produce(topic, b"%d" % number, b"%d" % name, partition=0)
            producer.poll(0)
    wait_until(lambda: sum(producer.flush(1) for producer in producers) == 0, "both have delivered")
    records = Confluent().consume(broker.bootstrap, topic, 2000)
    assert_contiguous(records)
    for name in (b"0", b"1"):
        assert [r.value for r in records if r.key == name] == [b"%d" % number for number in range(1000)]
