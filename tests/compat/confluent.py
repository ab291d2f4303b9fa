"""confluent-kafka for Python: librdkafka."""

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from .client import TIMEOUT_S, Client, Message, Polled


class Confluent(Client):
    name = "confluent-kafka"
    version = confluent_kafka.__version__

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.members = {}
        self.producers = {}
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def produce(self, topic, messages, codec="none", idempotent=False, bootstrap=None):
        bootstrap = bootstrap or self.bootstrap
        key = (bootstrap, codec, idempotent)
        if key not in self.producers:
            self.producers[key] = Producer({
                "bootstrap.servers": bootstrap, "log_level": 0, "linger.ms": 5, "compression.type": codec,
                "enable.idempotence": idempotent, "client.id": self.name,
            })  # fmt: skip
        producer, errors = self.producers[key], []
        for m in messages:
            producer.produce(topic, m.value, m.key, m.partition, timestamp=m.timestamp, headers=list(m.headers),
                             on_delivery=lambda error, _: error and errors.append(error))  # fmt: skip
        assert producer.flush(TIMEOUT_S) == 0 and not errors, errors

    def read(self, topic, count, committed=True, since=None):
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "log_level": 0, "group.id": "none",
                             "enable.auto.commit": False, "auto.offset.reset": "earliest",
                             "isolation.level": "read_committed" if committed else "read_uncommitted"})  # fmt: skip
        start = TopicPartition(topic, 0, 0)
        if since is not None:
            (start,) = consumer.offsets_for_times([TopicPartition(topic, 0, since)], TIMEOUT_S)
        consumer.assign([start])
        read = []
        while len(read) < count and (message := consumer.poll(TIMEOUT_S / 4)) is not None:
            read.append(_message(message))
        consumer.close()
        return read

    def join(self, member, group, topic, protocol="classic"):
        settings = {"bootstrap.servers": self.bootstrap, "log_level": 0, "group.id": group, "enable.auto.commit": False,
                    "auto.offset.reset": "earliest", "group.protocol": protocol}  # fmt: skip
        if protocol == "classic":
            settings |= {"session.timeout.ms": 30_000, "heartbeat.interval.ms": 300}
        self.members[member] = Consumer(settings)
        self.members[member].subscribe([topic])

    def poll(self, member):
        messages = self.members[member].consume(100, 0.2)
        return Polled([_message(message).value for message in messages], len(self.members[member].assignment()))

    def commit(self, member):
        self.members[member].commit(asynchronous=False)

    def leave(self, member):
        self.members.pop(member).close()

    def create_topic(self, topic, partitions, config):
        self.admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(TIMEOUT_S)

    def topic_config(self, topic, name):
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        return self.admin.describe_configs([resource])[resource].result(TIMEOUT_S)[name].value

    def grow_topic(self, topic, partitions):
        self.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(TIMEOUT_S)

    def topics(self):
        return {name: len(topic.partitions) for name, topic in self.admin.list_topics(timeout=10).topics.items()}

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])[topic].result(TIMEOUT_S)

    def committed(self, group: str, topic: str) -> int | None:
        """The offset that a group has committed for partition 0."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "log_level": 0, "group.id": group})
        (partition,) = consumer.committed([TopicPartition(topic, 0)], TIMEOUT_S)
        consumer.close()
        return partition.offset if partition.offset >= 0 else None

    def transact(self, producer, topic, values, outcome, id=None, consumed=None):
        if producer not in self.producers:
            settings = {"bootstrap.servers": self.bootstrap, "log_level": 0, "transactional.id": id or producer}
            self.producers[producer] = Producer(settings)
            self.producers[producer].init_transactions(TIMEOUT_S)
        producer = self.producers[producer]
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value, partition=0)
        producer.flush(TIMEOUT_S)
        if consumed:
            consumer = Consumer({"bootstrap.servers": self.bootstrap, "log_level": 0, "group.id": consumed.group})
            offsets = [TopicPartition(consumed.topic, 0, consumed.offset)]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), TIMEOUT_S)
            consumer.close()
        {"commit": producer.commit_transaction, "abort": producer.abort_transaction}[outcome](TIMEOUT_S)

    def close(self):
        for consumer in self.members.values():
            consumer.close()


def _message(message) -> Message:
    if message.error():
        raise KafkaException(message.error())
    return Message(message.value(), message.key(), tuple(message.headers() or ()), message.timestamp()[1])
