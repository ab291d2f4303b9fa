"""What a topic demands of batches, as Apache Kafka documents it: bounds on timestamps, whose clock, which codec, how large."""

import time

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource

from harness import raw_produce
from harness.admin import admin, create_topic, error_of
from harness.broker import wait_until
from harness.clients import CODECS, Confluent, new_group
from harness.records import Message

HOUR_MS = 3_600_000

# What a record's batch is stored with, by bits 0 to 2 of its attributes.
CODEC_IDS = dict(enumerate(CODECS))


def now_ms() -> int:
    """The clock that the broker has too."""
    return int(time.time() * 1000)


def produce_batch(broker, topic, messages: list[Message], codec: str = "none") -> list:
    """Produces in one batch and returns for each message its error's code, 0 for none, and the timestamp it got."""
    delivered = {}
    # A batch goes when it has them all.
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 10_000, "batch.num.messages": len(messages),
                         "compression.type": codec, "message.max.bytes": 4_000_000})  # fmt: skip
    for number, message in enumerate(messages):
        def note(error, answer, number=number):
            delivered[number] = (error.code() if error else 0, answer.timestamp())

        producer.produce(topic, message.value, message.key, 0, timestamp=message.timestamp, on_delivery=note)
    # Flushing would send what there is at once, which may be a part.
    wait_until(lambda: producer.poll(0.05) is not None and len(delivered) == len(messages), "all are answered")
    return [delivered[number] for number in range(len(messages))]


def errors_of(answers: list) -> list[int]:
    """The errors of `produce_batch`."""
    return [error for error, _ in answers]


def stored_batches(broker, topic: str) -> list[tuple[str, int]]:
    """Codec and size of a partition's batches, as they lie in its first segment: the format is the same for both brokers."""
    (segment,) = broker.data_dir.glob(f"**/{topic}-0/00000000000000000000.log")
    data = segment.read_bytes()
    batches, at = [], 0
    while at + 61 <= len(data) and data[at + 16] == 2:
        size = 12 + int.from_bytes(data[at + 8 : at + 12], "big")
        batches.append((CODEC_IDS[data[at + 22] & 7], size))
        at += size
    return batches


def stored_codecs(broker, topic: str) -> list[str]:
    """The codecs of a partition's batches."""
    return [codec for codec, _ in stored_batches(broker, topic)]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "bound, off", [("message.timestamp.before.max.ms", -2 * HOUR_MS), ("message.timestamp.after.max.ms", 2 * HOUR_MS)]
)
def test_timestamps_out_of_bounds(broker, topic, codec, bound, off):
    """One record out of bounds, in the middle: the batch is refused."""
    create_topic(broker.bootstrap, topic, config={bound: HOUR_MS})
    now = now_ms()
    batch = [Message(value=b"v", timestamp=now + shift) for shift in (0, off, 0)]
    assert errors_of(produce_batch(broker, topic, batch, codec)) == [KafkaError.INVALID_TIMESTAMP] * 3
    near = [Message(value=b"v", timestamp=now + off // 3) for _ in range(3)]
    assert errors_of(produce_batch(broker, topic, near, codec)) == [0, 0, 0]
    assert len(Confluent().consume(broker.bootstrap, topic, 3)) == 3


def test_bounds_by_default(broker, topic):
    """An hour ahead of the broker's clock, and as old as may be."""
    create_topic(broker.bootstrap, topic)
    assert errors_of(produce_batch(broker, topic, [Message(value=b"v", timestamp=1)])) == [0]
    ahead = [Message(value=b"v", timestamp=now_ms() + 2 * HOUR_MS)]
    assert errors_of(produce_batch(broker, topic, ahead)) == [KafkaError.INVALID_TIMESTAMP]


@pytest.mark.parametrize("codec", CODECS)
def test_compacted_topics_need_keys(broker, topic, codec):
    """One record without a key, in the middle: the batch is refused."""
    create_topic(broker.bootstrap, topic, config={"cleanup.policy": "compact"})
    batch = [Message(value=b"v", key=key, timestamp=now_ms()) for key in (b"a", None, b"b")]
    assert errors_of(produce_batch(broker, topic, batch, codec)) == [KafkaError.INVALID_RECORD] * 3


@pytest.mark.parametrize("codec", CODECS)
def test_log_append_time(broker, topic, codec):
    """Bounds do not count, the producer is answered with the broker's time, and consumers see that very time."""
    create_topic(
        broker.bootstrap, topic,
        config={"message.timestamp.type": "LogAppendTime", "message.timestamp.before.max.ms": HOUR_MS},
    )  # fmt: skip
    before = now_ms()
    answers = produce_batch(broker, topic, [Message(value=b"v", timestamp=1000) for _ in range(3)], codec)
    assert errors_of(answers) == [0, 0, 0]
    (appended,) = {timestamp for _, timestamp in answers}
    assert appended[0] == 2 and before <= appended[1] <= now_ms(), appended
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": new_group()})
    consumer.assign([TopicPartition(topic, 0, 0)])
    assert {message.timestamp() for message in consumer.consume(3, 30)} == {appended}
    assert consumer.offsets_for_times([TopicPartition(topic, 0, before)], 10)[0].offset == 0
    assert consumer.offsets_for_times([TopicPartition(topic, 0, appended[1] + 1)], 10)[0].offset == -1
    consumer.close()


@pytest.mark.parametrize("stored", ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"])
def test_compression_type(broker, topic, stored):
    """Batches are stored with the topic's codec, or the producer's where the topic says so, and read as they were."""
    create_topic(broker.bootstrap, topic, config={"compression.type": stored})
    sent = []
    for codec in CODECS:
        batch = [Message(value=b"%d " % number * 100, key=b"k", timestamp=now_ms()) for number in range(20)]
        assert set(errors_of(produce_batch(broker, topic, batch, codec))) == {0}
        sent += batch
    wanted = {"producer": CODECS, "uncompressed": ["none"] * 5}.get(stored, [stored] * 5)
    assert stored_codecs(broker, topic) == wanted
    read = Confluent().consume(broker.bootstrap, topic, len(sent))
    assert [(r.key, r.value, r.timestamp) for r in read] == [(m.key, m.value, m.timestamp) for m in sent]


@pytest.mark.parametrize("codec, levels", [("gzip", [1, 9]), ("zstd", [-50, 19])])
def test_compression_level(broker, topic, codec, levels, rng):
    """Batches that are recompressed are as small as the topic's level makes them, and read as they were."""
    words = ["paid", "shipped", "order", "customer", "refunded", "2013-07-01"]
    text = " ".join(f"{rng.choice(words)}{rng.randrange(1000)}" for _ in range(10_000)).encode()
    sizes = []
    for level in levels:
        name = f"{topic}-{level % 100}"
        create_topic(broker.bootstrap, name, config={"compression.type": codec, f"compression.{codec}.level": level})
        assert errors_of(produce_batch(broker, name, [Message(value=text, timestamp=now_ms())])) == [0]
        ((stored, size),) = stored_batches(broker, name)
        assert stored == codec
        sizes.append(size)
        assert Confluent().consume(broker.bootstrap, name, 1)[0].value == text
    assert sizes[0] > sizes[1]


def test_size_counts_as_sent_and_as_stored(broker, topic):
    """max.message.bytes holds for the batch as it comes, and again for what recompression makes of it."""
    large = [Message(value=b"a" * 100_000, timestamp=now_ms())]
    create_topic(broker.bootstrap, topic, config={"max.message.bytes": 50_000})
    assert errors_of(produce_batch(broker, topic, large)) == [KafkaError.MSG_SIZE_TOO_LARGE]
    assert errors_of(produce_batch(broker, topic, large, "gzip")) == [0]
    unpacked, packed = f"{topic}-unpacked", f"{topic}-packed"
    create_topic(
        broker.bootstrap, unpacked, config={"max.message.bytes": 50_000, "compression.type": "uncompressed"}
    )
    assert errors_of(produce_batch(broker, unpacked, large, "gzip")) == [KafkaError.MSG_SIZE_TOO_LARGE]
    create_topic(broker.bootstrap, packed, config={"max.message.bytes": 50_000, "compression.type": "gzip"})
    assert errors_of(produce_batch(broker, packed, large)) == [KafkaError.MSG_SIZE_TOO_LARGE], "as it comes"


def test_defaults_and_names_of_4x(broker, topic):
    """The defaults that Kafka 4 documents; what it has removed is no configuration any more."""
    create_topic(broker.bootstrap, topic)
    client, resource = admin(broker.bootstrap), ConfigResource(ConfigResource.Type.TOPIC, topic)
    described = client.describe_configs([resource])[resource].result(30)
    defaults = {
        "compression.type": "producer",
        "compression.gzip.level": "-1",
        "compression.lz4.level": "9",
        "compression.zstd.level": "3",
        "max.message.bytes": "1048588",
        "message.timestamp.type": "CreateTime",
        "message.timestamp.before.max.ms": "9223372036854775807",
        "message.timestamp.after.max.ms": "3600000",
    }
    assert {name: described[name].value for name in defaults} == defaults
    for gone in ["message.format.version", "message.downconversion.enable", "message.timestamp.difference.max.ms"]:
        assert gone not in described
        changed = ConfigResource(ConfigResource.Type.TOPIC, topic, {gone: "1"})
        assert error_of(client.alter_configs([changed])[changed]) == KafkaError.INVALID_CONFIG, gone


def test_what_topics_do_not_set_is_the_broker_s(start_broker, topic):
    """Whose clock, how far off and which codec: as the broker was started, as it is changed, and as the topic says."""
    broker = start_broker({"compression.type": "gzip", "log.message.timestamp.before.max.ms": HOUR_MS})
    create_topic(broker.bootstrap, topic)
    client = admin(broker.bootstrap)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    (node,) = client.list_topics(timeout=30).brokers

    def shown(name: str) -> tuple:
        entry = client.describe_configs([resource])[resource].result(30)[name]
        return entry.value, ConfigSource(entry.source)

    def change(name: str, value: str | None) -> None:
        operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
        entry = ConfigEntry(name, value, incremental_operation=operation)
        changed = ConfigResource(ConfigResource.Type.BROKER, str(node), incremental_configs=[entry])
        assert error_of(client.incremental_alter_configs([changed])[changed]) == 0, (name, value)
        wait_until(lambda: (shown(name.removeprefix("log."))[1] == dynamic) == (value is not None), f"{name}={value}")

    static, default = ConfigSource.STATIC_BROKER_CONFIG, ConfigSource.DEFAULT_CONFIG
    dynamic = ConfigSource.DYNAMIC_BROKER_CONFIG
    assert shown("compression.type") == ("gzip", static)
    assert shown("message.timestamp.before.max.ms") == (str(HOUR_MS), static)
    assert shown("message.timestamp.type") == ("CreateTime", default)
    old, new = ([Message(value=b"v", timestamp=now_ms() - age)] for age in (2 * HOUR_MS, 0))
    assert errors_of(produce_batch(broker, topic, new)) == [0]
    assert errors_of(produce_batch(broker, topic, old)) == [KafkaError.INVALID_TIMESTAMP]

    change("compression.type", "lz4")
    change("log.message.timestamp.before.max.ms", str(3 * HOUR_MS))
    change("log.message.timestamp.type", "LogAppendTime")
    assert shown("compression.type") == ("lz4", dynamic)
    assert shown("message.timestamp.type") == ("LogAppendTime", dynamic)
    ((error, (kind, _)),) = produce_batch(broker, topic, old)
    assert (error, kind) == (0, 2), "the broker's clock"
    change("log.message.timestamp.type", None)
    ((error, (kind, _)),) = produce_batch(broker, topic, old)
    assert (error, kind) == (0, 1), "the producer's again"
    own = ConfigEntry("compression.type", "producer", incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[own])
    assert error_of(client.incremental_alter_configs([changed])[changed]) == 0
    wait_until(lambda: shown("compression.type")[0] == "producer", "the topic has its own")
    assert errors_of(produce_batch(broker, topic, new)) == [0]
    assert stored_codecs(broker, topic) == ["gzip", "lz4", "lz4", "none"]


def test_batches_that_no_client_sends(broker, topic):
    """An offset of one's own, and the broker's clock claimed: refused as by Kafka, which says the latter only where
    its clock counts."""
    create_topic(broker.bootstrap, topic)
    stamped = f"{topic}-stamped"
    create_topic(broker.bootstrap, stamped, config={"message.timestamp.type": "LogAppendTime"})

    def produced(topic: str, at: int | None = None, value: int = 0, timestamp: int | None = None) -> int:
        batch = raw_produce.batch(now_ms() if timestamp is None else timestamp)
        if at is not None:
            batch[at] = value
        return raw_produce.produce(broker.bootstrap, topic, raw_produce.sign(batch))

    base_offset, attributes, log_append_time = 7, 22, 1 << 3
    assert produced(topic) == 0
    assert produced(topic, timestamp=-1) == 0, "there is none"
    assert produced(topic, base_offset, 5) == KafkaError.INVALID_RECORD
    assert produced(stamped) == 0
    assert produced(stamped, attributes, log_append_time) == KafkaError.INVALID_TIMESTAMP
    # A time before 1970 has no place in an index of times, and means something else in ListOffsets.
    stricter = KafkaError.INVALID_TIMESTAMP if broker.kind == "highwater" else 0
    assert produced(topic, attributes, log_append_time) == stricter
    assert produced(topic, timestamp=-2) == stricter
