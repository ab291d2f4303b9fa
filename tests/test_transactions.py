"""Transactions as their users have them: all of one is seen or nothing, whoever dies when."""

import os
import re
import subprocess
import threading
import time

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from harness.admin import create_topic
from harness.broker import KAFKA_JARS, end_with_parent, wait_until
from harness.clients import TESTS, new_group
from harness.kafka_tools import run_tool

TIMEOUT_S = 60

# How often the broker is killed amid commits.
KILLS = int(os.environ.get("HIGHWATER_TRANSACTION_KILLS", "20"))


def transactional(broker, transactional_id: str, **settings) -> Producer:
    """A producer that has taken the transactional id over."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": transactional_id,
                         "linger.ms": 0, **{name.replace("_", "."): value for name, value in settings.items()}})  # fmt: skip
    producer.init_transactions(TIMEOUT_S)
    return producer


def write(producer: Producer, topic: str, values, partition: int = 0) -> None:
    """Writes and waits until the broker has all of it."""
    errors = []
    for value in values:
        producer.produce(topic, value, partition=partition, on_delivery=lambda error, _: error and errors.append(error))
    assert producer.flush(TIMEOUT_S) == 0
    assert not errors, errors


def read(broker, topic: str, partitions: int = 1, isolation: str = "read_committed") -> list[list[bytes]]:
    """What a reader finds in each partition, up to where it has to stop."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": new_group(), "isolation.level": isolation,
                         "enable.auto.commit": False, "enable.partition.eof": True})  # fmt: skip
    consumer.assign([TopicPartition(topic, index, OFFSET_BEGINNING) for index in range(partitions)])
    values = [[] for _ in range(partitions)]
    ended = set()
    try:
        while len(ended) < partitions:
            message = consumer.poll(TIMEOUT_S)
            assert message is not None, f"{topic} has no end"
            if message.error() is None:
                values[message.partition()].append(message.value())
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise KafkaException(message.error())
    finally:
        consumer.close()
    return values


def wait_read(broker, topic: str, expected: list[list[bytes]]) -> None:
    """Returns when a reader of what is committed finds this: markers are written behind the answer to a commit."""
    wait_until(lambda: read(broker, topic, len(expected)) == expected, f"{expected} in {topic}")


def fenced(call) -> int:
    """The error that a producer dies of."""
    with pytest.raises(KafkaException) as caught:
        call()
    assert caught.value.args[0].fatal(), caught.value
    return caught.value.args[0].code()


def numbers(start: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, end)]


def test_commit_and_abort(broker, topic):
    """Over two partitions, one after the other: what is aborted is there for those only who ask for everything."""
    create_topic(broker.bootstrap, topic, 2)
    producer = transactional(broker, topic)
    for start, commits in ((0, True), (10, False), (20, True), (30, False)):
        producer.begin_transaction()
        write(producer, topic, numbers(start, start + 5), 0)
        write(producer, topic, numbers(start + 5, start + 10), 1)
        (producer.commit_transaction if commits else producer.abort_transaction)(TIMEOUT_S)
    committed = [numbers(0, 5) + numbers(20, 25), numbers(5, 10) + numbers(25, 30)]
    wait_read(broker, topic, committed)
    everything = [[value for start in (0, 10, 20, 30) for value in numbers(start + at, start + at + 5)] for at in (0, 5)]
    assert read(broker, topic, 2, "read_uncommitted") == everything


def test_open_transaction_holds_readers_back(broker, topic):
    """Nothing behind the first record of an open transaction is seen, whoever wrote it, until that ends."""
    create_topic(broker.bootstrap, topic)
    plain = Producer({"bootstrap.servers": broker.bootstrap})
    write(plain, topic, [b"before"])
    producer = transactional(broker, topic)
    producer.begin_transaction()
    write(producer, topic, [b"within"])
    write(plain, topic, [b"behind"])
    assert read(broker, topic) == [[b"before"]]
    assert read(broker, topic, isolation="read_uncommitted") == [[b"before", b"within", b"behind"]]
    producer.abort_transaction(TIMEOUT_S)
    wait_read(broker, topic, [[b"before", b"behind"]])


def test_interleaved_transactions(broker, topic):
    """Several producers in one partition: each record counts by its own transaction."""
    create_topic(broker.bootstrap, topic)
    producers = [transactional(broker, f"{topic}-{number}") for number in range(4)]
    for producer in producers:
        producer.begin_transaction()
    for round_ in range(5):
        for number, producer in enumerate(producers):
            write(producer, topic, [b"%d-%d" % (number, round_)])
    for number, producer in enumerate(producers):
        (producer.abort_transaction if number % 2 else producer.commit_transaction)(TIMEOUT_S)
    wait_read(broker, topic, [[b"%d-%d" % (number, round_) for round_ in range(5) for number in (0, 2)]])


def test_zombie_is_fenced(broker, topic):
    """Who takes a transactional id over aborts what was open, and who had it cannot commit any more."""
    create_topic(broker.bootstrap, topic)
    zombie = transactional(broker, topic)
    zombie.begin_transaction()
    write(zombie, topic, [b"zombie"])
    successor = transactional(broker, topic)
    successor.begin_transaction()
    write(successor, topic, [b"successor"])
    assert fenced(lambda: zombie.commit_transaction(TIMEOUT_S)) == KafkaError._FENCED
    successor.commit_transaction(TIMEOUT_S)
    wait_read(broker, topic, [[b"successor"]])


def test_timeout_aborts(start_broker, topic):
    """A transaction whose producer is silent for too long holds nobody back any longer, and cannot be committed."""
    broker = start_broker({"transaction.abort.timed.out.transaction.cleanup.interval.ms": 100})
    create_topic(broker.bootstrap, topic)
    slow = transactional(broker, topic, transaction_timeout_ms=5000)
    slow.begin_transaction()
    write(slow, topic, [b"slow"])
    plain = Producer({"bootstrap.servers": broker.bootstrap})
    write(plain, topic, [b"behind"])
    wait_read(broker, topic, [[b"behind"]])
    assert fenced(lambda: slow.commit_transaction(TIMEOUT_S)) == KafkaError._FENCED
    assert read(broker, topic) == [[b"behind"]]


def test_timeout_has_a_maximum(broker, topic):
    """What is asked for above `transaction.max.timeout.ms` is refused."""
    with pytest.raises(KafkaException) as caught:
        transactional(broker, topic, transaction_timeout_ms=900_001, message_timeout_ms=900_000)
    assert caught.value.args[0].code() == KafkaError.INVALID_TRANSACTION_TIMEOUT


def test_consume_transform_produce(broker, topic):
    """Offsets count with what was made of the records: after an abort the same records come again."""
    source, target, group = f"{topic}-in", f"{topic}-out", new_group()
    for name in (source, target):
        create_topic(broker.bootstrap, name)
    write(Producer({"bootstrap.servers": broker.bootstrap}), source, numbers(0, 20))
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                "enable.auto.commit": False, "isolation.level": "read_committed"}  # fmt: skip

    def transform(producer: Producer, commits: bool) -> list[bytes]:
        consumer = Consumer(settings)
        consumer.subscribe([source])
        values = []
        while len(values) < 10:
            message = consumer.poll(TIMEOUT_S)
            assert message is not None and message.error() is None, message and message.error()
            values.append(message.value())
        producer.begin_transaction()
        write(producer, target, [b"x" + value for value in values])
        offsets = [TopicPartition(source, 0, message.offset() + 1)]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), TIMEOUT_S)
        (producer.commit_transaction if commits else producer.abort_transaction)(TIMEOUT_S)
        consumer.close()
        return values

    producer = transactional(broker, topic)
    assert transform(producer, False) == numbers(0, 10)
    assert transform(producer, True) == numbers(0, 10), "the aborted offsets do not count"
    assert transform(producer, True) == numbers(10, 20)
    wait_read(broker, target, [[b"x" + value for value in numbers(0, 20)]])


@pytest.mark.timeout(600)
def test_killed_at_every_step_of_a_commit(start_broker, topic, rng, request):
    """kill -9 before, amid and after commits: what was acknowledged is seen, and of the rest all or nothing.

    The kill comes at a random moment of a time that is about as long as a commit takes.
    """
    print(f"seed: --seed {request.config.getoption('--seed')}")
    broker = start_broker()
    create_topic(broker.bootstrap, topic, 2)
    kills = KILLS if broker.kind == "highwater" else 3
    committed, unknown = [], []
    for kill in range(kills):
        producer = transactional(broker, topic)
        producer.begin_transaction()
        value = b"%d" % kill
        for partition in (0, 1):
            write(producer, topic, [value + b"a", value + b"b"], partition)
        outcome = []

        def commit():
            try:
                producer.commit_transaction(TIMEOUT_S)
                outcome.append(True)
            except KafkaException as error:
                outcome.append(error)

        if kill % 5 == 4:
            # Decided, perhaps with markers underway.
            producer.commit_transaction(TIMEOUT_S)
            committed.append(value)
            broker.kill()
            broker.start()
            continue
        committing = threading.Thread(target=commit, daemon=True)
        if kill % 5 == 3:
            broker.kill()
            committing.start()
        else:
            committing.start()
            time.sleep(rng.random() * 0.006)
            broker.kill()
        broker.start()
        committing.join(2 * TIMEOUT_S)
        assert not committing.is_alive(), "the commit comes to an end"
        (committed if outcome == [True] else unknown).append(value)
    # Whatever was open is ended by the next producer of the transactional id.
    producer = transactional(broker, topic)
    producer.begin_transaction()
    for partition in (0, 1):
        write(producer, topic, [b"end"], partition)
    producer.commit_transaction(TIMEOUT_S)
    wait_until(lambda: all(values[-1:] == [b"end"] for values in read(broker, topic, 2)), "the last transaction")
    first, second = read(broker, topic, 2)
    assert first == second, "one partition has what the other has not"
    pairs = [first[at : at + 2] for at in range(0, len(first) - 1, 2)]
    seen = [pair[0][:-1] for pair in pairs]
    assert pairs == [[value + b"a", value + b"b"] for value in seen], first
    assert [value for value in seen if value in committed] == committed, (seen, committed, unknown)
    assert set(seen) <= set(committed) | set(unknown)


# Kafka's own client: that of 4.x speaks the second protocol, that of 3.9 the first.
JAVA_CLIENTS = {"4.x": KAFKA_JARS, "3.9": TESTS / "java" / "older" / "target" / "jars"}

java_versions = pytest.mark.parametrize("version", JAVA_CLIENTS)


def java_command(version: str, *arguments: str) -> list[str]:
    """The command line of tests/java/Transactions.java with a client of this version."""
    classes = TESTS / "java" / "target"
    assert (classes / "Transactions.class").is_file(), "tests/setup compiles it"
    logging = f"-Dlog4j2.configurationFile={TESTS / 'kafka' / 'log4j2.properties'}"
    command = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", logging,
               "-cp", os.pathsep.join([str(classes), f"{JAVA_CLIENTS[version]}/*"]), "Transactions"]  # fmt: skip
    return [*command, *map(str, arguments)]


def java(version: str, *arguments: str) -> None:
    """Runs it to its end."""
    result = subprocess.run(java_command(version, *arguments), capture_output=True, text=True,
                            timeout=2 * TIMEOUT_S, preexec_fn=end_with_parent)  # fmt: skip
    assert result.returncode == 0, f"{result.stdout[-1000:]}\n{result.stderr[-3000:]}"


def fields(text: str, key: str) -> dict[str, str]:
    """The row of a tool's table whose first column is `key`, by the names of the columns."""
    rows = [re.split(r"\s+", line.strip()) for line in text.splitlines()]
    header = next(row for row in rows if row and row[0] in ("TransactionalId", "CoordinatorId", "ProducerId", "Topic"))
    found = [dict(zip(header, row)) for row in rows if key in row]
    assert found, f"{key} is not in:\n{text}"
    return found[0]


@java_versions
def test_java_client(broker, topic, version):
    """In the second protocol every transaction bumps the epoch, in the first it stays."""
    create_topic(broker.bootstrap, topic)
    java(version, "write", broker.bootstrap, topic, topic, "commit=a,b", "abort=c", "commit=d", "abort=e", "commit=f")
    wait_read(broker, topic, [[b"a", b"b", b"d", b"f"]])
    described = run_tool(broker, "kafka-transactions", "describe", "--transactional-id", topic)
    assert fields(described, topic)["ProducerEpoch"] == {"4.x": "5", "3.9": "0"}[version], described
    java(version, "write", broker.bootstrap, topic, topic, "leave=g")
    java(version, "write", broker.bootstrap, topic, topic, "commit=h")
    wait_read(broker, topic, [[b"a", b"b", b"d", b"f", b"h"]])


@java_versions
def test_java_client_transforms(broker, topic, version):
    """Offsets in transactions, with the group's metadata."""
    source, target, group = f"{topic}-in", f"{topic}-out", new_group()
    for name in (source, target):
        create_topic(broker.bootstrap, name)
    java(version, "write", broker.bootstrap, source, f"{topic}-writer", "commit=a,b,c,d,e,f,g,h,i,j", "abort=x,y", "commit=k")
    java(version, "transform", broker.bootstrap, source, target, topic, group, 11)
    wait_read(broker, target, [[b"%c" % letter for letter in b"ABCDEFGHIJK"]])


def test_aborted_transactions_and_retention(start_broker, topic):
    """Of many transactions readers pass over those that were aborted, in what retention has left: one that began before
    that among them, and whether the broker remembers it or reads it back."""
    broker = start_broker({"log.retention.check.interval.ms": 200})
    segment = 1 << 20
    create_topic(broker.bootstrap, topic, config={"segment.bytes": segment, "retention.bytes": 3 * segment})
    long = transactional(broker, f"{topic}-long", transaction_timeout_ms=600_000)
    short = transactional(broker, f"{topic}-short")
    long.begin_transaction()
    write(long, topic, [b"begin"])
    transactions = 200
    for number in range(transactions):
        short.begin_transaction()
        write(short, topic, [b"%d " % number + bytes(40_000)])
        (short.abort_transaction if number % 3 else short.commit_transaction)(TIMEOUT_S)
    write(long, topic, [b"end"])
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": new_group()})
    partition = TopicPartition(topic, 0)
    wait_until(lambda: consumer.get_watermark_offsets(partition, 10)[0] > transactions, "old segments are gone")
    consumer.close()
    assert read(broker, topic) == [[]], "the long one is open"
    long.abort_transaction(TIMEOUT_S)

    def committed() -> list[int]:
        return [int(value.split()[0]) for value in read(broker, topic)[0]]

    for restart in (None, broker.stop, broker.kill):
        if restart:
            restart()
            broker.start()
        wait_until(lambda: committed()[-1:] == [(transactions - 1) // 3 * 3], "all that ended is seen")
        seen = committed()
        assert seen[0] > 0 and seen == list(range(seen[0], transactions, 3)), restart


@pytest.mark.timeout(600)
@java_versions
def test_java_client_counts_while_the_broker_is_killed(start_broker, topic, version, rng, request):
    """A number a transaction, into two partitions: each is there once and in order, however often the broker dies."""
    print(f"seed: --seed {request.config.getoption('--seed')}")
    broker = start_broker()
    create_topic(broker.bootstrap, topic, 2)
    count, kills = (400, KILLS // 2) if broker.kind == "highwater" else (100, 2)
    errors = (broker.directory / "counting.log").open("w+")
    counting = subprocess.Popen(java_command(version, "count", broker.bootstrap, topic, topic, count),
                                stdout=subprocess.PIPE, stderr=errors, text=True, preexec_fn=end_with_parent)  # fmt: skip
    with counting:
        # Killed when so many numbers are committed, a little later.
        kill_at = sorted(rng.sample(range(1, count), kills))
        committed = []
        for line in counting.stdout:
            if not line.strip().isdigit():
                # The client's log.
                errors.write(line)
                continue
            committed.append(int(line))
            if kill_at and committed[-1] >= kill_at[0]:
                kill_at = [at for at in kill_at if at > committed[-1]]
                time.sleep(rng.random() * 0.01)
                broker.kill()
                broker.start()
    errors.seek(0)
    assert counting.returncode == 0, errors.read()[-3000:]
    assert committed == list(range(count))
    wait_read(broker, topic, [numbers(0, count)] * 2)


@pytest.mark.timeout(600)
def test_transactions_tool(broker, topic):
    """kafka-transactions: list, describe, the producers of a partition, and what hangs."""
    create_topic(broker.bootstrap, topic)
    # Each call of the tool starts a JVM, and the transaction has to outlive them all.
    producer = transactional(broker, topic, transaction_timeout_ms=600_000)
    producer.begin_transaction()
    write(producer, topic, numbers(0, 3))

    def tool(*arguments) -> str:
        return run_tool(broker, "kafka-transactions", *arguments)

    listed = fields(tool("list"), topic)
    assert listed["TransactionState"] == "Ongoing", listed
    producer_id = listed["ProducerId"]
    assert topic in tool("list", "--duration-filter", 0)
    assert topic not in tool("list", "--duration-filter", 3_600_000)
    assert topic in tool("list", "--transactional-id-pattern", f"{topic[:10]}.*")
    assert topic not in tool("list", "--transactional-id-pattern", topic[:10])
    described = fields(tool("describe", "--transactional-id", topic), topic)
    assert described["TransactionState"] == "Ongoing" and described["ProducerId"] == producer_id, described
    assert described["TopicPartitions"] == f"{topic}-0", described
    producers = fields(tool("describe-producers", "--topic", topic, "--partition", 0), producer_id)
    assert producers["CurrentTransactionStartOffset"] == "0", producers
    hanging = tool("find-hanging", "--broker-id", 1, "--max-transaction-timeout", 0)
    assert topic not in hanging, hanging
    producer.commit_transaction(TIMEOUT_S)
    wait_until(lambda: fields(tool("list"), topic)["TransactionState"] == "CompleteCommit", "the commit")
    unknown = tool("describe", "--transactional-id", "nobody")
    assert "transactional" in unknown.lower(), unknown


def test_transactions_tool_aborts(broker, topic):
    """By the offset at which a transaction began in a partition: the markers come past the coordinator."""
    create_topic(broker.bootstrap, topic)
    producer = transactional(broker, topic)
    producer.begin_transaction()
    write(producer, topic, [b"hangs"])
    plain = Producer({"bootstrap.servers": broker.bootstrap})
    write(plain, topic, [b"behind"])
    assert read(broker, topic) == [[]]
    aborted = run_tool(broker, "kafka-transactions", "abort", "--topic", topic, "--partition", 0, "--start-offset", 0)
    assert "rror" not in aborted and "xception" not in aborted, aborted
    wait_read(broker, topic, [[b"behind"]])
