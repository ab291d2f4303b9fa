"""Topics as an administrator handles them: created, described, changed, grown, emptied, deleted."""

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from kafka.admin import KafkaAdminClient
from kafka.admin import NewTopic as KafkaPythonTopic
from kafka.errors import InvalidTopicError

from harness import clients
from harness.admin import TIMEOUT_S, admin, create_topic, error_of, wait_for_topic
from harness.broker import wait_until
from harness.clients import Confluent
from harness.records import Message


def numbered(count: int, size: int = 10, partition: int = 0) -> list[Message]:
    return [Message(value=b"%d" % number + b"." * size, partition=partition) for number in range(count)]


def topic_config(broker, topic) -> dict:
    """The configuration entries of a topic, by name."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return admin(broker.bootstrap).describe_configs([resource])[resource].result(TIMEOUT_S)


def alter(broker, topic, *entries: ConfigEntry) -> int:
    """Alters a topic's configuration incrementally and returns the error code."""
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=list(entries))
    return error_of(admin(broker.bootstrap).incremental_alter_configs([resource])[resource])


def set_to(name: str, value) -> ConfigEntry:
    return ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET)


def offsets(broker, topic, partition=0) -> tuple[int, int]:
    """First and end offset of a partition."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": clients.new_group()})
    try:
        return consumer.get_watermark_offsets(TopicPartition(topic, partition), TIMEOUT_S)
    finally:
        consumer.close()


def test_create_and_describe(broker, topic):
    """A topic appears with its partitions, a leader for each, and an id."""
    create_topic(broker.bootstrap, topic, 5)
    client = admin(broker.bootstrap)
    described = client.describe_topics(TopicCollection([topic]))[topic].result(TIMEOUT_S)
    assert [p.id for p in described.partitions] == [0, 1, 2, 3, 4]
    assert all(p.leader is not None and len(p.isr) == 1 for p in described.partitions)
    assert not described.is_internal
    assert str(described.topic_id) != "AAAAAAAAAAAAAAAAAAAAAA"


def test_create_again_is_refused(broker, topic):
    """The second creation says TOPIC_ALREADY_EXISTS."""
    create_topic(broker.bootstrap, topic)
    assert error_of(admin(broker.bootstrap).create_topics([NewTopic(topic, 1, 1)])[topic]) == 36


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "x" * 250, "ü"])
def test_bad_names_are_refused(broker, name):
    """INVALID_TOPIC_EXCEPTION for what is no topic name, by a client that does not check first."""
    client = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        with pytest.raises(InvalidTopicError):
            client.create_topics([KafkaPythonTopic(name, 1, 1)])
    finally:
        client.close()


def test_validate_only_creates_nothing(broker, topic):
    """validate_only checks and leaves no topic behind."""
    client = admin(broker.bootstrap)
    assert error_of(client.create_topics([NewTopic(topic, 1, 1)], validate_only=True)[topic]) == 0
    assert topic not in client.list_topics(timeout=TIMEOUT_S).topics


def test_default_partitions(start_broker, topic):
    """-1 partitions means the broker's default."""
    broker = start_broker({"num.partitions": 3})
    client = admin(broker.bootstrap)
    client.create_topics([NewTopic(topic, -1, -1)])[topic].result(TIMEOUT_S)
    wait_for_topic(client, topic, 3)


def test_auto_creation(start_broker, topic):
    """Producing to a topic that is not there creates it with the default number of partitions."""
    broker = start_broker({"num.partitions": 3})
    Confluent().produce(broker.bootstrap, topic, numbered(10))
    wait_for_topic(admin(broker.bootstrap), topic, 3)
    assert len(Confluent().consume(broker.bootstrap, topic, 10)) == 10


def test_auto_creation_off(start_broker, topic):
    """With auto.create.topics.enable=false the topic stays unknown, to producers and to metadata."""
    broker = start_broker({"auto.create.topics.enable": False})
    errors = []
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 30_000, "topic.metadata.propagation.max.ms": 1000}
    )
    producer.produce(topic, b"v", on_delivery=lambda error, _: errors.append(error.code()))
    producer.flush(60)
    assert errors and errors[0] in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)
    assert topic not in admin(broker.bootstrap).list_topics(timeout=TIMEOUT_S).topics


def test_consumers_do_not_create(broker, topic):
    """A consumer whose request does not allow it creates nothing."""
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": clients.new_group(), "allow.auto.create.topics": False}
    )
    consumer.subscribe([topic])
    message = consumer.poll(20)
    assert message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    consumer.close()
    assert topic not in admin(broker.bootstrap).list_topics(timeout=TIMEOUT_S).topics


def test_delete_and_recreate(broker, topic):
    """A topic that is created again is another one: empty, from offset 0, and clients notice."""
    client = admin(broker.bootstrap)
    for generation in range(3):
        create_topic(broker.bootstrap, topic, 2)
        Confluent().produce(broker.bootstrap, topic, [Message(value=b"%d" % generation)] * (5 + generation))
        assert offsets(broker, topic) == (0, 5 + generation)
        values = {r.value for r in Confluent().consume(broker.bootstrap, topic, 5 + generation)}
        assert values == {b"%d" % generation}
        client.delete_topics([topic])[topic].result(TIMEOUT_S)
        wait_until(lambda: topic not in client.list_topics(timeout=TIMEOUT_S).topics, "the topic is gone")
    assert error_of(client.delete_topics([topic])[topic]) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_delete_under_a_reader(broker, topic):
    """A topic deleted while it is read takes no connection with it: its reader goes on with another topic."""
    other = f"{topic}-other"
    create_topic(broker.bootstrap, topic)
    create_topic(broker.bootstrap, other)
    Confluent().produce(broker.bootstrap, topic, numbered(100))
    Confluent().produce(broker.bootstrap, other, numbered(100))
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": clients.new_group(),
                         "allow.auto.create.topics": False})  # fmt: skip
    consumer.assign([TopicPartition(topic, 0, 0)])
    assert consumer.poll(TIMEOUT_S).value().startswith(b"0")
    admin(broker.bootstrap).delete_topics([topic])[topic].result(TIMEOUT_S)
    consumer.assign([TopicPartition(other, 0, 50)])
    message = wait_until(lambda: consumer.poll(0.5), "the other topic is read")
    assert not message.error() and (message.topic(), message.offset()) == (other, 50)
    consumer.close()


def test_create_partitions(broker, topic):
    """A topic grows; it cannot shrink, nor grow to what it is."""
    create_topic(broker.bootstrap, topic, 2)
    client = admin(broker.bootstrap)
    Confluent().produce(broker.bootstrap, topic, numbered(10, partition=1))
    assert error_of(client.create_partitions([NewPartitions(topic, 2)])[topic]) == 37
    assert error_of(client.create_partitions([NewPartitions(topic, 1)])[topic]) == 37
    assert error_of(client.create_partitions([NewPartitions(topic, 4)])[topic]) == 0
    wait_for_topic(client, topic, 4)
    Confluent().produce(broker.bootstrap, topic, numbered(10, partition=3))
    assert offsets(broker, topic, 1) == (0, 10)
    assert offsets(broker, topic, 3) == (0, 10)


def test_configs(broker, topic):
    """What is set is described as the topic's own, what is not as a default; taking it away brings the default back."""
    create_topic(broker.bootstrap, topic, config={"segment.ms": 3_600_000})
    entries = topic_config(broker, topic)
    assert entries["segment.ms"].value == "3600000" and not entries["segment.ms"].is_default
    assert entries["retention.bytes"].value == "-1" and entries["retention.bytes"].is_default
    assert entries["cleanup.policy"].value == "delete"
    for name in ("retention.ms", "segment.bytes", "max.message.bytes", "message.timestamp.type", "compression.type"):
        assert name in entries, name
    assert alter(broker, topic, set_to("segment.ms", 7_200_000), set_to("max.message.bytes", 5000)) == 0
    wait_until(lambda: topic_config(broker, topic)["segment.ms"].value == "7200000", "the change shows")
    assert topic_config(broker, topic)["max.message.bytes"].value == "5000"
    delete = ConfigEntry("segment.ms", None, incremental_operation=AlterConfigOpType.DELETE)
    assert alter(broker, topic, delete) == 0
    wait_until(lambda: topic_config(broker, topic)["segment.ms"].is_default, "the default is back")


def test_altered_config_acts(broker, topic):
    """max.message.bytes holds as soon as it is altered."""
    create_topic(broker.bootstrap, topic)
    Confluent().produce(broker.bootstrap, topic, numbered(1, 20_000))
    assert alter(broker, topic, set_to("max.message.bytes", 10_000)) == 0
    wait_until(lambda: topic_config(broker, topic)["max.message.bytes"].value == "10000", "the change shows")
    errors = []
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(topic, b"x" * 20_000, on_delivery=lambda error, _: errors.append(error.code()))
    producer.flush(30)
    assert errors == [KafkaError.MSG_SIZE_TOO_LARGE]


@pytest.mark.parametrize("name, value", [("retention.ms", "soon"), ("segment.bytes", "-5"), ("no.such.config", "1"),
                                         ("message.timestamp.type", "Sometimes"), ("cleanup.policy", "burn")])  # fmt: skip
def test_bad_configs_are_refused(broker, topic, name, value):
    """INVALID_CONFIG at creation and at alteration, and nothing changes."""
    invalid_config = 40
    client = admin(broker.bootstrap)
    assert error_of(client.create_topics([NewTopic(topic, 1, 1, config={name: value})])[topic]) == invalid_config
    assert topic not in client.list_topics(timeout=TIMEOUT_S).topics
    create_topic(broker.bootstrap, topic)
    before = {entry.name: entry.value for entry in topic_config(broker, topic).values()}
    assert alter(broker, topic, set_to(name, value)) == invalid_config
    assert {entry.name: entry.value for entry in topic_config(broker, topic).values()} == before


def test_broker_configs(broker):
    """A broker describes itself, with at least what tools look at."""
    resource = ConfigResource(ResourceType.BROKER, str(next(iter(admin(broker.bootstrap).list_topics().brokers))))
    entries = admin(broker.bootstrap).describe_configs([resource])[resource].result(TIMEOUT_S)
    for name in ("advertised.listeners", "message.max.bytes", "num.partitions", "auto.create.topics.enable"):
        assert name in entries, name


def test_describe_cluster(broker):
    """The cluster has one id, one node, and that node is the controller."""
    cluster = admin(broker.bootstrap).describe_cluster().result(TIMEOUT_S)
    again = admin(broker.bootstrap).describe_cluster().result(TIMEOUT_S)
    assert cluster.cluster_id and cluster.cluster_id == again.cluster_id
    assert [f"{node.host}:{node.port}" for node in cluster.nodes] == [broker.bootstrap]
    assert cluster.controller.id == cluster.nodes[0].id


def test_delete_records(broker, topic):
    """Records before an offset go; the first offset moves; reading from before it is out of range."""
    create_topic(broker.bootstrap, topic)
    Confluent().produce(broker.bootstrap, topic, numbered(100))
    client = admin(broker.bootstrap)
    partition = TopicPartition(topic, 0, 40)
    assert client.delete_records([partition])[partition].result(TIMEOUT_S).low_watermark == 40
    assert offsets(broker, topic) == (40, 100)
    assert Confluent().consume(broker.bootstrap, topic, 60)[0].offset == 40
    beyond = TopicPartition(topic, 0, 101)
    assert error_of(client.delete_records([beyond])[beyond]) == KafkaError.OFFSET_OUT_OF_RANGE
    everything = TopicPartition(topic, 0, -1)
    assert client.delete_records([everything])[everything].result(TIMEOUT_S).low_watermark == 100
    assert offsets(broker, topic) == (100, 100)
    Confluent().produce(broker.bootstrap, topic, numbered(1))
    assert offsets(broker, topic) == (100, 101)


def test_list_offsets(broker, topic):
    """First, end, largest timestamp and a time, asked by the admin client."""
    create_topic(broker.bootstrap, topic)
    times = [1000, 9000, 3000, 4000]
    Confluent().produce(broker.bootstrap, topic, [Message(value=b"v", timestamp=time) for time in times])
    client = admin(broker.bootstrap)
    partition = TopicPartition(topic, 0)

    def ask(spec) -> tuple[int, int]:
        found = client.list_offsets({partition: spec})[partition].result(TIMEOUT_S)
        return found.offset, found.timestamp

    assert ask(OffsetSpec.earliest())[0] == 0
    assert ask(OffsetSpec.latest())[0] == 4
    assert ask(OffsetSpec.max_timestamp()) == (1, 9000)
    assert ask(OffsetSpec.for_timestamp(2000)) == (1, 9000)
    assert ask(OffsetSpec.for_timestamp(9001))[0] == -1


def test_retention_by_size(start_broker, topic):
    """Whole segments go, oldest first, until the topic fits; what is left is contiguous and readable."""
    broker = start_broker({"log.retention.check.interval.ms": 200})
    segment = 1 << 20
    create_topic(broker.bootstrap, topic, config={"segment.bytes": segment, "retention.bytes": 3 * segment})
    Confluent().produce(broker.bootstrap, topic, numbered(10_000, 1000))
    first, end = wait_until(
        lambda: offsets(broker, topic) if offsets(broker, topic)[0] > 5000 else None, "old segments are gone"
    )
    assert end == 10_000
    records = Confluent().consume(broker.bootstrap, topic, end - first)
    assert [r.offset for r in records] == list(range(first, end))


def test_retention_by_time(start_broker, topic):
    """Segments whose newest record is older than retention.ms go; the newest offset is never given again."""
    broker = start_broker({"log.retention.check.interval.ms": 200})
    create_topic(broker.bootstrap, topic, config={"segment.bytes": 1 << 20, "retention.ms": 60_000})
    old = [Message(value=b"x" * 1000, timestamp=1_600_000_000_000) for _ in range(5000)]
    Confluent().produce(broker.bootstrap, topic, old)
    wait_until(lambda: offsets(broker, topic)[0] >= 4000, "old segments are gone")
    assert offsets(broker, topic)[1] == 5000


@pytest.mark.parametrize("codec", ["gzip", "zstd", "uncompressed"])
def test_topic_compression_type(broker, topic, codec):
    """compression.type of a topic recompresses what a producer sent; the records stay as they were."""
    create_topic(broker.bootstrap, topic, config={"compression.type": codec})
    messages = numbered(200, 500)
    Confluent().produce(broker.bootstrap, topic, messages, "lz4")
    records = Confluent().consume(broker.bootstrap, topic, 200)
    assert [r.value for r in records] == [m.value for m in messages]


def test_survives_restart(start_broker, topic):
    """Topics, their ids, configurations, first offsets and records are there after a restart."""
    broker = start_broker()
    create_topic(broker.bootstrap, topic, 3, {"segment.ms": 12_345_678})
    Confluent().produce(broker.bootstrap, topic, numbered(100))
    client = admin(broker.bootstrap)
    partition = TopicPartition(topic, 0, 10)
    client.delete_records([partition])[partition].result(TIMEOUT_S)
    before = client.describe_topics(TopicCollection([topic]))[topic].result(TIMEOUT_S)
    cluster = client.describe_cluster().result(TIMEOUT_S).cluster_id
    assert broker.stop() in (0, 143)
    broker.start()
    client = admin(broker.bootstrap)
    after = client.describe_topics(TopicCollection([topic]))[topic].result(TIMEOUT_S)
    assert str(before.topic_id) == str(after.topic_id) and len(after.partitions) == 3
    assert client.describe_cluster().result(TIMEOUT_S).cluster_id == cluster
    assert topic_config(broker, topic)["segment.ms"].value == "12345678"
    assert offsets(broker, topic) == (10, 100)
    assert [r.offset for r in Confluent().consume(broker.bootstrap, topic, 90)] == list(range(10, 100))
