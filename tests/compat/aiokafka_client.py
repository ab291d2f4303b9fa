"""aiokafka: asyncio, with old versions of the protocol. Its loop runs in a thread, as it would in a service."""

import asyncio
import threading

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from .client import TIMEOUT_S, Client, Message, Polled


class Aiokafka(Client):
    name = "aiokafka"
    version = aiokafka.__version__
    absent = {"group, KIP-848": "classic groups only"}

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.members = {}
        self.producers = {}
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, TIMEOUT_S), self.loop).result()

    def produce(self, topic, messages, codec="none", idempotent=False, bootstrap=None):
        self._run(self._produce(topic, messages, codec, idempotent, bootstrap or self.bootstrap))

    async def _produce(self, topic, messages, codec, idempotent, bootstrap):
        key = (bootstrap, codec, idempotent)
        if key not in self.producers:
            self.producers[key] = AIOKafkaProducer(
                bootstrap_servers=bootstrap, compression_type=None if codec == "none" else codec, linger_ms=5,
                enable_idempotence=idempotent, acks="all", client_id=self.name,
            )  # fmt: skip
            await self.producers[key].start()
        send = self.producers[key].send
        futures = [await send(topic, m.value, m.key, m.partition, m.timestamp, list(m.headers)) for m in messages]
        await asyncio.gather(*futures)

    def read(self, topic, count, committed=True, since=None):
        return self._run(self._read(topic, count, committed, since))

    async def _read(self, topic, count, committed, since):
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap,
                                    isolation_level="read_committed" if committed else "read_uncommitted")  # fmt: skip
        await consumer.start()
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        times = {} if since is None else await consumer.offsets_for_times({partition: since})
        consumer.seek(partition, times[partition].offset if times else 0)
        read = []
        try:
            while len(read) < count:
                record = await asyncio.wait_for(consumer.getone(), TIMEOUT_S / 4)
                read.append(Message(record.value, record.key, tuple(record.headers), record.timestamp))
        finally:
            await consumer.stop()
        return read

    def join(self, member, group, topic, protocol="classic"):
        async def start():
            self.members[member] = AIOKafkaConsumer(
                topic, bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False,
                auto_offset_reset="earliest", heartbeat_interval_ms=300, session_timeout_ms=30_000,
            )  # fmt: skip
            await self.members[member].start()

        self._run(start())

    def poll(self, member):
        consumer = self.members[member]
        polled = self._run(consumer.getmany(timeout_ms=200))
        return Polled([record.value for records in polled.values() for record in records], len(consumer.assignment()))

    def commit(self, member):
        self._run(self.members[member].commit())

    def leave(self, member):
        self._run(self.members.pop(member).stop())

    def _admin(self, call):
        async def run():
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                return await call(admin)
            finally:
                await admin.close()

        return self._run(run())

    def create_topic(self, topic, partitions, config):
        self._admin(lambda admin: admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)]))

    def topic_config(self, topic, name):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (response,) = self._admin(lambda admin: admin.describe_configs([resource]))
        return next(entry[1] for entry in response.resources[0][4] if entry[0] == name)

    def grow_topic(self, topic, partitions):
        self._admin(lambda admin: admin.create_partitions({topic: NewPartitions(partitions)}))

    def topics(self):
        described = self._admin(lambda admin: admin.describe_topics())
        return {topic["topic"]: len(topic["partitions"]) for topic in described}

    def delete_topic(self, topic):
        self._admin(lambda admin: admin.delete_topics([topic]))

    def transact(self, producer, topic, values, outcome, id=None, consumed=None):
        self._run(self._transact(producer, topic, values, outcome, id or producer, consumed))

    async def _transact(self, producer, topic, values, outcome, id, consumed):
        if producer not in self.producers:
            self.producers[producer] = AIOKafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=id)
            await self.producers[producer].start()
        producer = self.producers[producer]
        await producer.begin_transaction()
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
        if consumed:
            offsets = {TopicPartition(consumed.topic, 0): consumed.offset}
            await producer.send_offsets_to_transaction(offsets, consumed.group)
        await (producer.commit_transaction() if outcome == "commit" else producer.abort_transaction())

    def close(self):
        for open_one in [*self.members.values(), *self.producers.values()]:
            self._run(open_one.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
