"""kafka-python: pure Python."""

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from .client import TIMEOUT_S, Client, Message, Polled


class KafkaPython(Client):
    name = "kafka-python"
    version = kafka.__version__
    absent = {"group, KIP-848": "classic groups only"}

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.members = {}
        self.producers = {}
        self.admin = None

    def _admin(self) -> KafkaAdminClient:
        self.admin = self.admin or KafkaAdminClient(bootstrap_servers=self.bootstrap)
        return self.admin

    def produce(self, topic, messages, codec="none", idempotent=False, bootstrap=None):
        bootstrap = bootstrap or self.bootstrap
        key = (bootstrap, codec, idempotent)
        if key not in self.producers:
            self.producers[key] = KafkaProducer(
                bootstrap_servers=bootstrap, compression_type=None if codec == "none" else codec, linger_ms=5,
                enable_idempotence=idempotent, acks="all", client_id=self.name, retry_backoff_ms=50,
            )  # fmt: skip
        send = self.producers[key].send
        futures = [send(topic, m.value, m.key, list(m.headers), m.partition, m.timestamp) for m in messages]
        for future in futures:
            future.get(TIMEOUT_S)

    def read(self, topic, count, committed=True, since=None):
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=None, consumer_timeout_ms=15_000,
                                 isolation_level="read_committed" if committed else "read_uncommitted")  # fmt: skip
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        times = {} if since is None else consumer.offsets_for_times({partition: since})
        consumer.seek(partition, times[partition].offset if times else 0)
        read = []
        while len(read) < count and (record := next(consumer, None)):
            read.append(Message(record.value, record.key, tuple(record.headers), record.timestamp))
        consumer.close()
        return read

    def join(self, member, group, topic, protocol="classic"):
        self.members[member] = KafkaConsumer(
            topic, bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False,
            auto_offset_reset="earliest", heartbeat_interval_ms=300, session_timeout_ms=30_000, metadata_max_age_ms=1000,
        )  # fmt: skip

    def poll(self, member):
        consumer = self.members[member]
        polled = consumer.poll(200)
        return Polled([record.value for records in polled.values() for record in records], len(consumer.assignment()))

    def commit(self, member):
        self.members[member].commit()

    def leave(self, member):
        self.members.pop(member).close()

    def create_topic(self, topic, partitions, config):
        self._admin().create_topics({topic: {"num_partitions": partitions, "replication_factor": 1, "configs": config}})

    def topic_config(self, topic, name):
        described = self._admin().describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        return described["topic"][topic][name]["value"]

    def grow_topic(self, topic, partitions):
        self._admin().create_partitions({topic: partitions})

    def topics(self):
        return {topic["name"]: len(topic["partitions"]) for topic in self._admin().describe_topics()}

    def delete_topic(self, topic):
        self._admin().delete_topics([topic])

    def transact(self, producer, topic, values, outcome, id=None, consumed=None):
        if producer not in self.producers:
            self.producers[producer] = KafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=id or producer)
            self.producers[producer].init_transactions()
        producer = self.producers[producer]
        producer.begin_transaction()
        for value in values:
            producer.send(topic, value, partition=0).get(TIMEOUT_S)
        if consumed:
            offsets = {TopicPartition(consumed.topic, 0): OffsetAndMetadata(consumed.offset, "", -1)}
            producer.send_offsets_to_transaction(offsets, consumed.group)
        if outcome == "commit":
            producer.commit_transaction()
        else:
            producer.abort_transaction()

    def close(self):
        for open_one in [*self.members.values(), *self.producers.values()]:
            open_one.close()
