"""The clients that people use, each behind the same two calls.

`produce` sends messages to the partitions they name and returns when all are acknowledged; `consume` reads a number of
records from the first offset on, as a member of a new group. What a client cannot do is said in its class.
"""

import asyncio
import base64
import json
import os
import subprocess
import uuid
from pathlib import Path

import aiokafka
import confluent_kafka
import kafka

from .broker import KAFKA_JARS, end_with_parent
from .records import Message, Record

TESTS = Path(__file__).resolve().parents[1]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
TIMEOUT_S = 60


def new_group() -> str:
    """A group's name that nobody used."""
    return f"group-{uuid.uuid4().hex[:12]}"


class Client:
    """One client library."""

    name = ""
    # A null header value; two headers of one name.
    null_headers = True
    repeated_headers = True
    # A record with neither key nor value.
    empty_records = True

    def produce(self, bootstrap: str, topic: str, messages: list[Message], codec: str = "none", acks: int = -1) -> None:
        raise NotImplementedError

    def consume(self, bootstrap: str, topic: str, count: int, group: str | None = None) -> list[Record]:
        raise NotImplementedError


class Confluent(Client):
    """confluent-kafka: librdkafka."""

    name = "confluent-kafka"

    def produce(self, bootstrap, topic, messages, codec="none", acks=-1):
        errors = []
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": bootstrap, "compression.type": codec, "acks": acks, "linger.ms": 20,
             "enable.idempotence": acks == -1}
        )  # fmt: skip

        def delivered(error, _message):
            if error:
                errors.append(error)

        for message in messages:
            producer.produce(
                topic, message.value, message.key, message.partition,
                timestamp=message.timestamp, headers=message.headers or None, on_delivery=delivered,
            )  # fmt: skip
            producer.poll(0)
        assert producer.flush(TIMEOUT_S) == 0, "not all delivered"
        assert not errors, errors

    def consume(self, bootstrap, topic, count, group=None):
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": bootstrap, "group.id": group or new_group(), "auto.offset.reset": "earliest"}
        )
        consumer.subscribe([topic])
        records = []
        try:
            while len(records) < count:
                batch = consumer.consume(min(10_000, count - len(records)), TIMEOUT_S)
                assert batch, f"only {len(records)} of {count} records"
                records += [confluent_record(message) for message in batch]
        finally:
            consumer.close()
        return records


def confluent_record(message: confluent_kafka.Message) -> Record:
    """What confluent-kafka read, or its error as an exception."""
    if message.error():
        raise confluent_kafka.KafkaException(message.error())
    headers = tuple((name, value) for name, value in message.headers() or ())
    return Record(
        message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value(), headers
    )


class KafkaPython(Client):
    """kafka-python: pure Python."""

    name = "kafka-python"
    null_headers = False
    empty_records = False

    def produce(self, bootstrap, topic, messages, codec="none", acks=-1):
        producer = kafka.KafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            acks="all" if acks == -1 else acks,
            enable_idempotence=acks == -1,
            linger_ms=20,
        )
        try:
            futures = [
                producer.send(topic, message.value, message.key, message.headers or None, message.partition,
                              message.timestamp)
                for message in messages
            ]  # fmt: skip
            for future in futures:
                future.get(TIMEOUT_S)
        finally:
            producer.close(timeout=5)

    def consume(self, bootstrap, topic, count, group=None):
        consumer = kafka.KafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group or new_group(),
            auto_offset_reset="earliest",
            consumer_timeout_ms=TIMEOUT_S * 1000,
        )
        try:
            records = []
            for message in consumer:
                records.append(kafka_python_record(message))
                if len(records) == count:
                    break
        finally:
            consumer.close()
        return records


def kafka_python_record(message) -> Record:
    """What kafka-python read."""
    return Record(
        message.partition, message.offset, message.timestamp, message.key, message.value, tuple(message.headers)
    )


class Aiokafka(Client):
    """aiokafka: asyncio, with old versions of the protocol."""

    name = "aiokafka"
    empty_records = False

    def produce(self, bootstrap, topic, messages, codec="none", acks=-1):
        asyncio.run(asyncio.wait_for(self._produce(bootstrap, topic, messages, codec, acks), TIMEOUT_S))

    async def _produce(self, bootstrap, topic, messages, codec, acks):
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            acks="all" if acks == -1 else acks,
            enable_idempotence=acks == -1,
            linger_ms=20,
        )
        await producer.start()
        try:
            futures = [
                await producer.send(topic, message.value, message.key, message.partition, message.timestamp,
                                    message.headers)
                for message in messages
            ]  # fmt: skip
            await producer.flush()
            await asyncio.gather(*futures)
        finally:
            await producer.stop()

    def consume(self, bootstrap, topic, count, group=None):
        return asyncio.run(asyncio.wait_for(self._consume(bootstrap, topic, count, group), TIMEOUT_S))

    async def _consume(self, bootstrap, topic, count, group):
        consumer = aiokafka.AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=group or new_group(), auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            records = []
            async for message in consumer:
                records.append(kafka_python_record(message))
                if len(records) == count:
                    break
        finally:
            await consumer.stop()
        return records


class Program(Client):
    """A client in another language, as a program that speaks JSON lines with base64 for bytes."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def produce(self, bootstrap, topic, messages, codec="none", acks=-1):
        lines = "".join(
            json.dumps(
                {
                    "partition": message.partition,
                    "timestamp": message.timestamp,
                    "key": _text(message.key),
                    "value": _text(message.value),
                    "headers": [[name, _text(value)] for name, value in message.headers],
                }
            )
            + "\n"
            for message in messages
        )
        self._run("produce", bootstrap, topic, codec, str(acks), stdin=lines)

    def consume(self, bootstrap, topic, count, group=None):
        lines = self._run("consume", bootstrap, topic, str(count), group or new_group()).splitlines()
        records = []
        for line in lines:
            read = json.loads(line)
            headers = tuple((name, _bytes(value)) for name, value in read["headers"])
            records.append(
                Record(
                    read["partition"], read["offset"], read["timestamp"],
                    _bytes(read["key"]), _bytes(read["value"]), headers,
                )
            )  # fmt: skip
        return records

    def _run(self, *arguments: str, stdin: str = "") -> str:
        result = subprocess.run(
            [*self.command(), *arguments],
            input=stdin, capture_output=True, text=True, timeout=2 * TIMEOUT_S, preexec_fn=end_with_parent,
        )  # fmt: skip
        assert result.returncode == 0, f"{self.name} {arguments[0]}: {result.stdout[-1000:]}\n{result.stderr[-3000:]}"
        return result.stdout


class KafkaJs(Program):
    """KafkaJS: headers are an object, so a null value is lost."""

    name = "kafkajs"
    null_headers = False
    repeated_headers = False

    def command(self):
        return ["node", str(TESTS / "node" / "client.mjs")]


class Java(Program):
    """Kafka's own client."""

    name = "java"

    def __init__(self, group_protocol: str = "classic"):
        self.group_protocol = group_protocol

    def command(self):
        classes = TESTS / "java" / "target"
        assert (classes / "Client.class").is_file(), "tests/setup compiles it"
        logging = TESTS / "kafka" / "log4j2.properties"
        return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={logging}",
                f"-DgroupProtocol={self.group_protocol}",
                "-cp", os.pathsep.join([str(classes), f"{KAFKA_JARS}/*"]), "Client"]  # fmt: skip

    def describe_group(self, bootstrap: str, group: str) -> dict:
        """Type and state of a group, and the partitions of its members, as the AdminClient tells them."""
        return json.loads(self._run("describe", bootstrap, group))


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


ALL = [Confluent(), KafkaPython(), Aiokafka(), KafkaJs(), Java()]
