"""Topics, as tests make them."""

import time

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

TIMEOUT_S = 30


_clients: dict[str, AdminClient] = {}


def admin(bootstrap: str) -> AdminClient:
    """The admin client of a broker. One for all, since a client that is dropped takes its unanswered calls with it."""
    if bootstrap not in _clients:
        settings = {"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200}
        _clients[bootstrap] = AdminClient(settings)
    return _clients[bootstrap]


def forget_admin(bootstrap: str) -> None:
    """Has the next call make a new client. A call that librdkafka 2.16 is given after it has lost its only broker and
    before it has that back may wait for a handle that is being taken down, until it times out."""
    _clients.pop(bootstrap, None)


def create_topic(bootstrap: str, name: str, partitions: int = 1, config: dict | None = None) -> None:
    """Creates a topic and waits until its partitions have a leader."""
    client = admin(bootstrap)
    config = {name: str(value) for name, value in (config or {}).items()}
    client.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(TIMEOUT_S)
    wait_for_topic(client, name, partitions)


def wait_for_topic(client: AdminClient, name: str, partitions: int) -> None:
    """Returns when the metadata shows `partitions` partitions of the topic, and the leader of each serves it.

    A leader of Apache Kafka's is in the metadata before it knows of it.
    """
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        found = client.list_topics(timeout=TIMEOUT_S).topics.get(name)
        if found and len(found.partitions) == partitions and all(p.leader >= 0 for p in found.partitions.values()):
            asked = {TopicPartition(name, number): OffsetSpec.latest() for number in range(partitions)}
            if all(error_of(future) == KafkaError.NO_ERROR for future in client.list_offsets(asked).values()):
                return
        assert time.monotonic() < deadline, f"topic {name} does not show {partitions} partitions"
        time.sleep(0.02)


def error_of(future) -> int:
    """The Kafka error code that a future of the admin client ends with; 0 for none."""
    try:
        future.result(TIMEOUT_S)
    except KafkaException as error:
        return error.args[0].code()
    return KafkaError.NO_ERROR
