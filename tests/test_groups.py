"""Consumer groups: members join, leave, expire and come back; offsets stay; administrators look and clean up."""

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition as KafkaPythonPartition

from harness.admin import TIMEOUT_S, admin, create_topic, error_of
from harness.broker import wait_until
from harness.clients import Confluent, new_group
from harness.records import Message

GROUP_ID_NOT_FOUND = 69
NON_EMPTY_GROUP = 68


def member(broker, group, topic, **settings) -> Consumer:
    """A consumer that has subscribed; it joins by being polled."""
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
         "enable.auto.commit": False, "heartbeat.interval.ms": 200, **settings}
    )  # fmt: skip
    consumer.subscribe([topic])
    return consumer


def partitions_of(consumer) -> set[int]:
    """The partitions that a member has."""
    return {partition.partition for partition in consumer.assignment()}


def settle(members, count: int) -> None:
    """Polls the members until they share `count` partitions out, each with one or more of its own."""

    def shared() -> bool:
        for consumer in members:
            consumer.poll(0.05)
        owned = [partitions_of(consumer) for consumer in members]
        return all(owned) and sum(map(len, owned)) == count and set().union(*owned) == set(range(count))

    wait_until(shared, f"{len(members)} members share {count} partitions", 60, 0)


def committed(broker, group, topic, partition=0) -> int:
    """The offset that a group has committed, -1001 for none."""
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition)])
    result = admin(broker.bootstrap).list_consumer_group_offsets([request])[group].result(TIMEOUT_S)
    return result.topic_partitions[0].offset


def commit_outside(broker, group, topic, offset) -> None:
    """Commits for a group without being its member."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_members_come_and_go(broker, topic, strategy):
    """Partitions are shared out anew as members join and leave, eagerly and cooperatively."""
    create_topic(broker.bootstrap, topic, 6)
    settings = {"partition.assignment.strategy": strategy}
    group = new_group()
    first = member(broker, group, topic, **settings)
    settle([first], 6)
    second = member(broker, group, topic, **settings)
    settle([first, second], 6)
    third = member(broker, group, topic, **settings)
    settle([first, second, third], 6)
    second.close()
    settle([first, third], 6)
    first.close()
    settle([third], 6)
    third.close()


def test_session_timeout(broker, topic):
    """A member that stops its heartbeats is put out, and the others get what it had."""
    create_topic(broker.bootstrap, topic, 4)
    group = new_group()
    settings = {"session.timeout.ms": 2000}
    silent = member(broker, group, topic, **settings, **{"max.poll.interval.ms": 3000})
    other = member(broker, group, topic, **settings)
    settle([silent, other], 4)
    # Not polled any more: its own library takes it out of the group when the interval is over.
    settle([other], 4)
    other.close()
    silent.close()


def test_static_member_returns(broker, topic):
    """A static member that leaves without a word and comes back gets the same partitions in the same generation."""
    create_topic(broker.bootstrap, topic, 4)
    group = new_group()
    settings = {"session.timeout.ms": 30_000}
    first = member(broker, group, topic, **settings, **{"group.instance.id": "one"})
    second = member(broker, group, topic, **settings, **{"group.instance.id": "two"})
    settle([first, second], 4)
    before = partitions_of(first), partitions_of(second)
    second.close()  # a static member says nothing when it closes
    second = member(broker, group, topic, **settings, **{"group.instance.id": "two"})
    settle([first, second], 4)
    assert (partitions_of(first), partitions_of(second)) == before
    described = admin(broker.bootstrap).describe_consumer_groups([group])[group].result(TIMEOUT_S)
    assert {m.group_instance_id for m in described.members} == {"one", "two"}
    first.close()
    second.close()


def test_offsets_survive_a_restart(start_broker, topic):
    """What a group has committed is there after a stop and after a kill -9, and reading goes on from it."""
    broker = start_broker()
    create_topic(broker.bootstrap, topic)
    Confluent().produce(broker.bootstrap, topic, [Message(value=b"%d" % number) for number in range(100)])
    group = new_group()
    for end, stop in ((30, broker.stop), (60, broker.kill)):
        consumer = member(broker, group, topic)
        start = committed(broker, group, topic)
        first = max(start, 0)
        read = consumer.consume(end - first, TIMEOUT_S)
        assert [m.offset() for m in read] == list(range(first, end))
        consumer.commit(asynchronous=False)
        consumer.close()
        stop()
        broker.start()
        wait_until(lambda end=end: committed(broker, group, topic) == end, "the commit is back")


def test_list_describe_delete(broker, topic):
    """A group is listed, described with its members, refused to be deleted while it has any, then deleted."""
    create_topic(broker.bootstrap, topic, 2)
    client = admin(broker.bootstrap)
    group = new_group()
    consumer = member(broker, group, topic)
    settle([consumer], 2)
    assert group in {g.group_id for g in client.list_consumer_groups().result(TIMEOUT_S).valid}
    described = client.describe_consumer_groups([group])[group].result(TIMEOUT_S)
    assert described.state.name == "STABLE" and len(described.members) == 1
    assert {p.partition for p in described.members[0].assignment.topic_partitions} == {0, 1}
    assert error_of(client.delete_consumer_groups([group])[group]) == NON_EMPTY_GROUP
    consumer.close()
    commit_outside(broker, group, topic, 1)
    assert error_of(client.delete_consumer_groups([group])[group]) == KafkaError.NO_ERROR
    assert group not in {g.group_id for g in client.list_consumer_groups().result(TIMEOUT_S).valid}
    assert error_of(client.delete_consumer_groups([group])[group]) == GROUP_ID_NOT_FOUND
    assert committed(broker, group, topic) == -1001


def test_offset_delete(broker, topic):
    """Offsets of a topic are forgotten on request."""
    create_topic(broker.bootstrap, topic)
    group = new_group()
    commit_outside(broker, group, topic, 7)
    assert committed(broker, group, topic) == 7
    client = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        client.delete_group_offsets(group, [KafkaPythonPartition(topic, 0)])
    finally:
        client.close()
    assert committed(broker, group, topic) == -1001


def test_reset_of_offsets(broker, topic):
    """An administrator sets the offsets of a group that has no members; its next member starts there."""
    create_topic(broker.bootstrap, topic)
    Confluent().produce(broker.bootstrap, topic, [Message(value=b"%d" % number) for number in range(50)])
    group = new_group()
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 20)])
    admin(broker.bootstrap).alter_consumer_group_offsets([request])[group].result(TIMEOUT_S)
    consumer = member(broker, group, topic)
    assert consumer.poll(TIMEOUT_S).offset() == 20
    consumer.close()


def test_foreign_commit_is_refused(broker, topic):
    """One that is no member cannot commit for a group that has members."""
    create_topic(broker.bootstrap, topic)
    group = new_group()
    consumer = member(broker, group, topic)
    settle([consumer], 1)
    outsider = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    with pytest.raises(Exception) as refused:
        outsider.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    assert refused.value.args[0].code() == KafkaError.UNKNOWN_MEMBER_ID
    outsider.close()
    consumer.close()
