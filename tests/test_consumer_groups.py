"""Consumer groups of the newer protocol (KIP-848): the broker assigns, and members move one by one."""

import threading
from collections import Counter

import pytest
from confluent_kafka import Consumer, ConsumerGroupType, KafkaError, TopicPartition
from confluent_kafka.admin import NewPartitions

from harness.admin import TIMEOUT_S, admin, create_topic, error_of
from harness.broker import wait_until
from harness.clients import Confluent, Java, new_group
from harness.records import Message

# Heartbeats come as often as the broker says; every step of a rebalance takes one.
SETTINGS = {"group.consumer.heartbeat.interval.ms": 200, "group.consumer.min.heartbeat.interval.ms": 100,
            "group.consumer.session.timeout.ms": 45_000, "group.consumer.min.session.timeout.ms": 1000}  # fmt: skip


def consumer_of(broker, group, **settings) -> Consumer:
    return Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": group, "group.protocol": "consumer",
         "auto.offset.reset": "earliest", "enable.auto.commit": False, "topic.metadata.refresh.interval.ms": 500,
         "topic.metadata.propagation.max.ms": 500, **settings}
    )  # fmt: skip


def member(broker, group, *topics, **settings) -> Consumer:
    """A consumer that has subscribed; it joins by being polled."""
    consumer = consumer_of(broker, group, **settings)
    consumer.subscribe(list(topics))
    return consumer


def owned_by(consumer) -> set[tuple[str, int]]:
    return {(partition.topic, partition.partition) for partition in consumer.assignment()}


def settle(members, count: int) -> None:
    """Polls the members until they share `count` partitions out, each with one or more of its own."""

    def shared() -> bool:
        for consumer in members:
            consumer.poll(0.05)
        owned = [owned_by(consumer) for consumer in members]
        return all(owned) and sum(map(len, owned)) == count and len(set().union(*owned)) == count

    wait_until(shared, f"{len(members)} members share {count} partitions", 60, 0)


def numbers(count: int, start: int = 0) -> list[Message]:
    return [Message(value=b"%d" % number) for number in range(start, start + count)]


@pytest.fixture
def quick_broker(start_broker):
    """A broker whose groups rebalance in fractions of a second."""
    return start_broker(SETTINGS)


@pytest.mark.parametrize("assignor", ["uniform", "range"])
def test_members_come_and_go(quick_broker, topic, assignor):
    """Partitions are shared out anew as members join and leave."""
    broker = quick_broker
    create_topic(broker.bootstrap, topic, 6)
    group = new_group()
    settings = {"group.remote.assignor": assignor}
    first = member(broker, group, topic, **settings)
    settle([first], 6)
    second = member(broker, group, topic, **settings)
    settle([first, second], 6)
    third = member(broker, group, topic, **settings)
    settle([first, second, third], 6)
    assert sorted(len(owned_by(it)) for it in (first, second, third)) == [2, 2, 2]
    second.close()
    settle([first, third], 6)
    described = admin(broker.bootstrap).describe_consumer_groups([group])[group].result(TIMEOUT_S)
    assert described.partition_assignor == assignor and len(described.members) == 2
    first.close()
    settle([third], 6)
    third.close()


def test_nothing_missed_and_nothing_doubled(quick_broker, topic):
    """While members come and go under load, with commits before partitions are given up, each record is seen once."""
    broker = quick_broker
    create_topic(broker.bootstrap, topic, 8)
    group = new_group()
    seen: Counter[bytes] = Counter()
    lock = threading.Lock()
    total = 4000

    def revoked(consumer, partitions):
        positions = [it for it in consumer.position(partitions) if it.offset >= 0]
        if positions:
            consumer.commit(offsets=positions, asynchronous=False)

    def work(stop: threading.Event, failures: list) -> None:
        consumer = consumer_of(broker, group)
        try:
            consumer.subscribe([topic], on_revoke=revoked)
            while not stop.is_set():
                message = consumer.poll(0.1)
                if message is not None and not message.error():
                    with lock:
                        seen[message.value()] += 1
            revoked(consumer, consumer.assignment())
        except Exception as error:
            failures.append(error)
        finally:
            consumer.close()

    failures: list = []
    workers = []

    def start_worker() -> None:
        stop = threading.Event()
        thread = threading.Thread(target=work, args=(stop, failures))
        thread.start()
        workers.append((stop, thread))

    def stop_worker() -> None:
        stop, thread = workers.pop(0)
        stop.set()
        thread.join(TIMEOUT_S)

    try:
        for step in range(8):
            Confluent().produce(broker.bootstrap, topic, numbers(total // 8, step * (total // 8)))
            start_worker()
            wait_until(lambda step=step: len(seen) > step * (total // 8) // 2, "records are consumed")
            if step % 3 == 2:
                stop_worker()
        wait_until(lambda: len(seen) == total, "every record is seen", 60)
    finally:
        while workers:
            stop_worker()
    assert not failures, failures
    assert set(seen.values()) == {1}, f"seen more than once: {[v for v, n in seen.items() if n > 1][:5]}"


def test_patterns_follow_topics(quick_broker, topic):
    """A subscription by a pattern finds the topics that there are, and those that come later."""
    broker = quick_broker
    create_topic(broker.bootstrap, f"{topic}-a", 2)
    create_topic(broker.bootstrap, f"other-{topic}", 1)
    consumer = member(broker, new_group(), f"^{topic}-[ab]")
    settle([consumer], 2)
    create_topic(broker.bootstrap, f"{topic}-b", 1)
    create_topic(broker.bootstrap, f"{topic}-c", 1)
    settle([consumer], 3)
    assert {name for name, _ in owned_by(consumer)} == {f"{topic}-a", f"{topic}-b"}
    consumer.close()


def test_topics_grow_and_go(quick_broker, topic):
    """More partitions are assigned without anybody asking; a deleted topic goes out of the assignment."""
    broker = quick_broker
    create_topic(broker.bootstrap, topic, 1)
    create_topic(broker.bootstrap, f"{topic}-other", 1)
    consumer = member(broker, new_group(), topic, f"{topic}-other")
    settle([consumer], 2)
    client = admin(broker.bootstrap)
    client.create_partitions([NewPartitions(topic, 3)])[topic].result(TIMEOUT_S)
    settle([consumer], 4)
    client.delete_topics([f"{topic}-other"])[f"{topic}-other"].result(TIMEOUT_S)
    settle([consumer], 3)
    consumer.close()


def test_static_member_returns(quick_broker, topic):
    """A static member that closes and comes back gets the same partitions; nobody else has them in between."""
    broker = quick_broker
    create_topic(broker.bootstrap, topic, 4)
    group = new_group()
    first = member(broker, group, topic, **{"group.instance.id": "one"})
    second = member(broker, group, topic, **{"group.instance.id": "two"})
    settle([first, second], 4)
    before = owned_by(first), owned_by(second)
    second.close()
    first.poll(1)
    assert owned_by(first) == before[0]
    second = member(broker, group, topic, **{"group.instance.id": "two"})
    settle([first, second], 4)
    assert (owned_by(first), owned_by(second)) == before
    # One that has not gone away keeps its instance id.
    third = member(broker, group, topic, **{"group.instance.id": "two"})
    errors = []

    def refused() -> bool:
        first.poll(0.05)
        second.poll(0.05)
        message = third.poll(0.1)
        if message is not None and message.error():
            errors.append(message.error().code())
        return bool(errors)

    wait_until(refused, "the third is refused", 30, 0)
    assert errors[0] in (KafkaError.UNRELEASED_INSTANCE_ID, KafkaError._FATAL)
    third.close()
    first.close()
    second.close()


def test_groups_survive_kill(start_broker, topic):
    """After kill -9 members go on with what they had, at the offsets that were committed."""
    broker = start_broker(SETTINGS)
    create_topic(broker.bootstrap, topic, 4)
    Confluent().produce(broker.bootstrap, topic, [Message(value=b"%d" % n, partition=n % 4) for n in range(40)])
    group = new_group()
    members = [member(broker, group, topic), member(broker, group, topic)]
    settle_without_reading(members, 4)
    before = [owned_by(consumer) for consumer in members]
    read = Counter()

    def read_all(goal: int) -> None:
        def enough() -> bool:
            for consumer in members:
                message = consumer.poll(0.05)
                if message is not None and not message.error():
                    read[message.value()] += 1
                    consumer.commit(message=message, asynchronous=False)
            return len(read) >= goal

        wait_until(enough, f"{goal} records", 60, 0)

    resume(members)
    read_all(20)
    broker.kill()
    broker.start()
    read_all(40)
    assert set(read.values()) == {1}
    assert [owned_by(consumer) for consumer in members] == before, "nobody was put out"
    for consumer in members:
        consumer.close()


def settle_without_reading(members, count: int) -> None:
    """As `settle`, with every partition paused as soon as it is there."""
    for consumer in members:
        topics = [topic for topic, _ in owned_by(consumer)]
        assert not topics

    def shared() -> bool:
        for consumer in members:
            consumer.pause(consumer.assignment())
            message = consumer.poll(0.05)
            if message is not None and not message.error():
                place = TopicPartition(message.topic(), message.partition(), message.offset())
                consumer.seek(place)
        owned = [owned_by(consumer) for consumer in members]
        return all(owned) and sum(map(len, owned)) == count and len(set().union(*owned)) == count

    wait_until(shared, f"{len(members)} members share {count} partitions", 60, 0)


def resume(members) -> None:
    for consumer in members:
        consumer.resume(consumer.assignment())


def test_list_describe_delete(quick_broker, topic):
    """A group is listed with its type, described with its members, refused to be deleted while it has any."""
    broker = quick_broker
    create_topic(broker.bootstrap, topic, 2)
    client = admin(broker.bootstrap)
    group = new_group()
    consumer = member(broker, group, topic)
    settle([consumer], 2)

    def groups(kind) -> set[str]:
        return {it.group_id for it in client.list_consumer_groups(types={kind}).result(TIMEOUT_S).valid}

    assert group in groups(ConsumerGroupType.CONSUMER) and group not in groups(ConsumerGroupType.CLASSIC)
    described = client.describe_consumer_groups([group])[group].result(TIMEOUT_S)
    assert described.state.name == "STABLE" and described.type == ConsumerGroupType.CONSUMER
    assert {it.partition for it in described.members[0].assignment.topic_partitions} == {0, 1}
    assert {it.partition for it in described.members[0].target_assignment.topic_partitions} == {0, 1}
    assert error_of(client.delete_consumer_groups([group])[group]) == KafkaError.NON_EMPTY_GROUP
    consumer.close()
    wait_until(
        lambda: error_of(client.delete_consumer_groups([group])[group]) == KafkaError.NO_ERROR, "the group is deleted"
    )
    assert group not in groups(ConsumerGroupType.CONSUMER)


def test_silent_member_is_put_out(start_broker, topic):
    """A member that stops polling stops its heartbeats too; when its session is over, the others get what it had."""
    broker = start_broker({**SETTINGS, "group.consumer.session.timeout.ms": 6000})
    create_topic(broker.bootstrap, topic, 4)
    group = new_group()
    silent = member(broker, group, topic, **{"max.poll.interval.ms": 3000})
    other = member(broker, group, topic)
    settle([silent, other], 4)
    settle([other], 4)
    other.close()
    silent.close()


@pytest.mark.parametrize("by", ["name", "pattern"])
def test_java_client(quick_broker, topic, by):
    """Kafka's own consumer joins by the newer protocol and reads everything, by name and by pattern."""
    broker = quick_broker
    create_topic(broker.bootstrap, topic, 3)
    messages = [Message(value=b"%d" % number, partition=number % 3) for number in range(300)]
    Confluent().produce(broker.bootstrap, topic, messages)
    subscription = topic if by == "name" else f"re2:{topic[:-1]}."
    group = new_group()
    records = Java("consumer").consume(broker.bootstrap, subscription, 300, group)
    assert Counter(record.value for record in records) == Counter(message.value for message in messages)
    described = Java().describe_group(broker.bootstrap, group)
    assert (described["type"], described["state"]) == ("Consumer", "Empty")


@pytest.mark.highwater_only("the command line and the HTTP API")
def test_command_line_and_http(quick_broker, topic):
    """`highwater group`, `highwater lag` and the HTTP API show these groups as others."""
    import requests

    broker = quick_broker
    create_topic(broker.bootstrap, topic, 2)
    Confluent().produce(broker.bootstrap, topic, numbers(10))
    group = new_group()
    consumer = member(broker, group, topic)
    settle([consumer], 2)
    consumer.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    listed = broker.cli("group", "--bootstrap", broker.bootstrap, "list").stdout.decode()
    assert group in listed and "Stable" in listed
    described = broker.cli("group", "--bootstrap", broker.bootstrap, "describe", group).stdout.decode()
    assert f"{topic}: 0,1" in described and "assignor uniform" in described
    assert topic in broker.cli("lag", "--bootstrap", broker.bootstrap, group).stdout.decode()
    groups = requests.get(f"{broker.http}/api/v1/groups", timeout=TIMEOUT_S).json()["groups"]
    shown = next(each for each in groups if each["group"] == group)
    assert (shown["state"], shown["protocol_type"], shown["protocol"]) == ("Stable", "consumer", "consumer")
    lag = requests.get(f"{broker.http}/api/v1/groups/{group}/lag", timeout=TIMEOUT_S).json()
    assert [row["committed_offset"] for row in lag["partitions"]] == [1]
    consumer.close()


@pytest.mark.parametrize("strategy", ["cooperative-sticky", "range"])
def test_live_migration(quick_broker, topic, strategy):
    """Members change their protocol one by one, there and back, and each record is seen once."""
    broker = quick_broker
    create_topic(broker.bootstrap, topic, 6)
    group = new_group()
    classic = {"group.protocol": "classic", "partition.assignment.strategy": strategy, "heartbeat.interval.ms": 200}
    seen: Counter[bytes] = Counter()
    finished = False

    def commit(consumer, partitions) -> None:
        # A client that is closed while the other's leaving is on its way to it has left before it gives up what it had.
        if finished:
            return
        positions = [it for it in consumer.position(partitions) if it.offset >= 0]
        if positions:
            consumer.commit(offsets=positions, asynchronous=False)

    def start(settings) -> Consumer:
        base = {"bootstrap.servers": broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                "enable.auto.commit": False}  # fmt: skip
        consumer = Consumer({**base, **settings})
        consumer.subscribe([topic], on_revoke=commit)
        return consumer

    def share(members) -> None:
        def shared() -> bool:
            for consumer in members:
                message = consumer.poll(0.05)
                if message is not None and not message.error():
                    seen[message.value()] += 1
            owned = [owned_by(consumer) for consumer in members]
            return all(owned) and sum(map(len, owned)) == 6 and len(set().union(*owned)) == 6

        wait_until(shared, f"{len(members)} members share 6 partitions", 60, 0)

    def kind() -> str:
        described = admin(broker.bootstrap).describe_consumer_groups([group])[group].result(TIMEOUT_S)
        return described.type.name

    total = 0

    def produce() -> None:
        nonlocal total
        Confluent().produce(broker.bootstrap, topic, numbers(600, total))
        total += 600

    produce()
    members = [start(classic), start(classic)]
    share(members)
    assert kind() == "CLASSIC"
    # There: each is replaced by one of the newer protocol, and works beside the other.
    for turn, settings in enumerate([{"group.protocol": "consumer"}] * 2 + [classic] * 2):
        leaving = members.pop(0)
        commit(leaving, leaving.assignment())
        leaving.close()
        members.append(start(settings))
        produce()
        share(members)
        assert kind() == ("CLASSIC" if turn == 3 else "CONSUMER"), f"after turn {turn}"

    def all_seen() -> bool:
        for consumer in members:
            for message in consumer.consume(500, 0.2):
                if not message.error():
                    seen[message.value()] += 1
        return len(seen) == total

    wait_until(all_seen, f"{total} records", 60, 0)
    assert set(seen.values()) == {1}, [value for value, count in seen.items() if count > 1][:5]
    finished = True
    for consumer in members:
        consumer.close()
