"""Apache Kafka's own console tools, each with what it prints."""

import json
import re

import confluent_kafka
import pytest
import requests

from harness.admin import create_topic
from harness.broker import wait_until
from harness.clients import Confluent, new_group
from harness.kafka_tools import run_tool
from harness.records import Message

TEN_RECORDS = [Message(value=b"%d" % number) for number in range(10)]


@pytest.fixture
def tool(broker):
    """Runs a tool against the shared broker."""
    return lambda name, *arguments, **options: run_tool(broker, name, *arguments, **options)


def fields(text: str) -> dict[str, str]:
    """What is printed as `Name: value`, a line each."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def test_topics(tool, topic):
    """Created, listed, described, altered, deleted."""
    created = tool("kafka-topics", "--create", "--topic", topic, "--partitions", 2, "--config", "retention.ms=1000000")
    assert f"Created topic {topic}." in created
    assert topic in tool("kafka-topics", "--list").splitlines()
    described = tool("kafka-topics", "--describe", "--topic", topic)
    assert "PartitionCount: 2\tReplicationFactor: 1" in described and "retention.ms=1000000" in described, described
    assert len(re.findall(r"Leader: 1\tReplicas: 1\tIsr: 1", described)) == 2, described
    assert tool("kafka-topics", "--alter", "--topic", topic, "--partitions", 3).strip() == ""
    assert "PartitionCount: 3" in tool("kafka-topics", "--describe", "--topic", topic)
    assert tool("kafka-topics", "--delete", "--topic", topic).strip() == ""
    assert topic not in tool("kafka-topics", "--list").splitlines()


def test_configs_of_topics_and_brokers(tool, topic, broker):
    """Set, shown with their synonyms, and removed."""
    create_topic(broker.bootstrap, topic)
    entity = ("--entity-type", "topics", "--entity-name", topic)
    assert f"Completed updating config for topic {topic}." in tool(
        "kafka-configs", "--alter", *entity, "--add-config", "retention.ms=5000,max.message.bytes=2000"
    )
    described = tool("kafka-configs", "--describe", *entity)
    assert "retention.ms=5000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=5000" in described, described
    assert "max.message.bytes=2000" in described and "DEFAULT_CONFIG:message.max.bytes=1048588" in described
    tool("kafka-configs", "--alter", *entity, "--delete-config", "retention.ms")
    assert "retention.ms" not in tool("kafka-configs", "--describe", *entity)
    refused = tool("kafka-configs", "--alter", *entity, "--add-config", "no.such.config=1")
    assert "Unknown topic config name: no.such.config" in refused, refused
    all_of_broker = tool("kafka-configs", "--describe", "--entity-type", "brokers", "--entity-name", 1, "--all")
    assert "num.partitions=1" in all_of_broker and "advertised.listeners=PLAINTEXT" in all_of_broker


def test_configs_of_clients(tool, topic):
    """Quotas of a client: set, shown, removed."""
    client = ("--entity-type", "clients", "--entity-name", topic)
    set_to = tool("kafka-configs", "--alter", *client, "--add-config", "producer_byte_rate=1024,consumer_byte_rate=2048")
    assert f"Completed updating config for client {topic}." in set_to, set_to
    shown = f"Quota configs for client-id '{topic}' are "
    described = tool("kafka-configs", "--describe", *client)
    assert shown in described and "producer_byte_rate=1024.0" in described, described
    assert "consumer_byte_rate=2048.0" in described
    tool("kafka-configs", "--alter", *client, "--delete-config", "producer_byte_rate,consumer_byte_rate")
    assert shown not in tool("kafka-configs", "--describe", *client)
    assert "Error" not in tool("kafka-configs", "--describe", "--entity-type", "users")


def test_configs_of_groups(tool, topic):
    """The timing of a group of KIP-848: set before the group exists, shown, removed."""
    group = ("--entity-type", "groups", "--entity-name", topic)
    set_to = tool("kafka-configs", "--alter", *group, "--add-config", "consumer.session.timeout.ms=50000")
    assert f"Completed updating config for group {topic}." in set_to, set_to
    described = tool("kafka-configs", "--describe", *group)
    assert ("consumer.session.timeout.ms=50000 sensitive=false synonyms="
            "{DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000") in described, described  # fmt: skip
    tool("kafka-configs", "--alter", *group, "--delete-config", "consumer.session.timeout.ms")
    assert "=50000" not in tool("kafka-configs", "--describe", *group)
    refused = tool("kafka-configs", "--alter", *group, "--add-config", "no.such.config=1")
    assert "Unknown group config name: no.such.config" in refused, refused


def test_subscriptions_to_client_metrics(tool, topic):
    """Made, listed, shown, removed, by the tool that is made for it."""
    made = tool("kafka-client-metrics", "--alter", "--name", topic, "--metrics", "org.apache.kafka.producer.",
                "--interval", 10000, "--match", "client_software_name=apache-kafka-java")  # fmt: skip
    assert f"Altered client metrics config for {topic}." in made, made
    assert topic in tool("kafka-client-metrics", "--list").splitlines()
    described = tool("kafka-client-metrics", "--describe", "--name", topic)
    assert "interval.ms=10000" in described and "metrics=org.apache.kafka.producer." in described, described
    assert "match=client_software_name=apache-kafka-java" in described, described
    assert f"Deleted client metrics config for {topic}." in tool("kafka-client-metrics", "--delete", "--name", topic)
    assert topic not in tool("kafka-client-metrics", "--list").splitlines()


def test_broker_settings_change_while_it_runs(start_broker, topic):
    """For the cluster and for the broker; the stronger one counts, and topics run with it."""
    broker = start_broker()
    create_topic(broker.bootstrap, topic)

    def configs(*arguments) -> str:
        return run_tool(broker, "kafka-configs", *arguments)

    cluster = ("--entity-type", "brokers", "--entity-default")
    own = ("--entity-type", "brokers", "--entity-name", 1)
    assert "Completed updating default config for brokers" in configs(
        "--alter", *cluster, "--add-config", "message.max.bytes=5000"
    )
    assert "Completed updating config for broker 1." in configs(
        "--alter", *own, "--add-config", "message.max.bytes=7000"
    )
    assert "message.max.bytes=5000" in configs("--describe", *cluster)
    described = configs("--describe", *own)
    assert ("message.max.bytes=7000 sensitive=false synonyms={DYNAMIC_BROKER_CONFIG:message.max.bytes=7000, "
            "DYNAMIC_DEFAULT_BROKER_CONFIG:message.max.bytes=5000") in described, described  # fmt: skip
    of_topic = configs("--describe", "--entity-type", "topics", "--entity-name", topic, "--all")
    assert "max.message.bytes=7000 sensitive=false synonyms={DYNAMIC_BROKER_CONFIG" in of_topic, of_topic
    errors = []
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(topic, b"x" * 8000, on_delivery=lambda error, _: errors.append(error and error.code()))
    producer.produce(topic, b"x" * 6000, on_delivery=lambda error, _: errors.append(error and error.code()))
    producer.flush(30)
    # Both may have gone in one batch, which is too large then; one by one they are told apart.
    producer.produce(topic, b"x" * 6000, on_delivery=lambda error, _: errors.append(error and error.code()))
    producer.flush(30)
    assert errors[0] == confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE and errors[-1] is None, errors
    assert "Cannot update these configs dynamically" in configs("--alter", *own, "--add-config", "broker.id=5")


@pytest.mark.highwater_only("Kafka keeps quotas of users without authentication")
def test_quotas_of_users_are_refused(tool):
    """There are no users."""
    refused = tool("kafka-configs", "--alter", "--entity-type", "users", "--entity-name", "alice",
                   "--add-config", "producer_byte_rate=1024")  # fmt: skip
    assert "there are no users without authentication" in refused, refused


def test_performance_tools_and_offsets(tool, topic, broker):
    """A thousand records in and out again, counted by the offsets, the directory and the lag."""
    create_topic(broker.bootstrap, topic)
    produced = tool("kafka-producer-perf-test", "--topic", topic, "--num-records", 1000, "--record-size", 100,
                    "--throughput", -1)  # fmt: skip
    assert "1000 records sent" in produced, produced
    group = new_group()
    consumed = tool("kafka-consumer-perf-test", "--topic", topic, "--num-records", 1000, "--group", group)
    last = consumed.strip().splitlines()[-1].split(", ")
    assert last[4] == "1000", consumed
    assert tool("kafka-get-offsets", "--topic", topic).strip() == f"{topic}:0:1000"
    directories = tool("kafka-log-dirs", "--describe", "--topic-list", topic)
    partitions = json.loads(directories.strip().splitlines()[-1])["brokers"][0]["logDirs"][0]["partitions"]
    assert partitions[0]["partition"] == f"{topic}-0" and partitions[0]["size"] > 100_000
    described = tool("kafka-consumer-groups", "--describe", "--group", group)
    row = next(line.split() for line in described.splitlines() if line.startswith(group))
    assert row[1:6] == [topic, "0", "1000", "1000", "0"], described
    assert group in tool("kafka-consumer-groups", "--list")
    reset = tool("kafka-consumer-groups", "--group", group, "--topic", topic, "--reset-offsets", "--to-earliest",
                 "--execute")  # fmt: skip
    assert re.search(rf"{topic}\s+0\s+0\b", reset), reset
    assert "was successful" in tool("kafka-consumer-groups", "--delete", "--group", group)


def test_console_producer_and_consumer(tool, topic, broker):
    """Lines in, lines out."""
    create_topic(broker.bootstrap, topic)
    tool("kafka-console-producer", "--topic", topic, "--reader-property", "parse.key=true",
         stdin="a\tone\nb\ttwo\n")  # fmt: skip
    consumed = tool("kafka-console-consumer", "--topic", topic, "--from-beginning", "--max-messages", 2,
                    "--formatter-property", "print.key=true")  # fmt: skip
    assert [line for line in consumed.splitlines() if "\t" in line] == ["a\tone", "b\ttwo"], consumed


def test_delete_records(tool, topic, broker, tmp_path):
    """Records before an offset go."""
    create_topic(broker.bootstrap, topic)
    Confluent().produce(broker.bootstrap, topic, TEN_RECORDS)
    file = tmp_path / "delete.json"
    file.write_text(json.dumps({"partitions": [{"topic": topic, "partition": 0, "offset": 4}], "version": 1}))
    printed = tool("kafka-delete-records", "--offset-json-file", file)
    assert f"partition: {topic}-0\tlow_watermark: 4" in printed, printed


def test_elections_and_reassignments(tool, topic, broker, tmp_path):
    """No election is needed; partitions are reassigned to the one broker, and to no other."""
    create_topic(broker.bootstrap, topic)
    elected = tool("kafka-leader-election", "--election-type", "PREFERRED", "--topic", topic, "--partition", 0)
    assert f"Valid replica already elected for partitions {topic}-0" in elected, elected
    file = tmp_path / "reassign.json"

    def reassign(replicas: list[int], action: str) -> str:
        partition = {"topic": topic, "partition": 0, "replicas": replicas}
        file.write_text(json.dumps({"version": 1, "partitions": [partition]}))
        return tool("kafka-reassign-partitions", "--reassignment-json-file", file, action)

    assert f"Successfully started partition reassignment for {topic}-0" in reassign([1], "--execute")
    assert f"Reassignment of partition {topic}-0 is completed." in reassign([1], "--verify")
    assert "Error" in reassign([1, 7], "--execute")
    assert "No partition reassignments found." in tool("kafka-reassign-partitions", "--list")


def test_cluster_quorum_and_features(tool, broker):
    """The cluster's id, its one endpoint, its one voter, and what it can do."""
    cluster = re.search(r"Cluster ID: (\S+)", tool("kafka-cluster", "cluster-id")).group(1)
    status = fields(tool("kafka-metadata-quorum", "describe", "--status"))
    assert status["ClusterId"] == cluster and status["LeaderId"] == "1" and status["MaxFollowerLag"] == "0", status
    assert '"id": 1' in status["CurrentVoters"] and status["CurrentObservers"] == "[]", status
    replication = tool("kafka-metadata-quorum", "describe", "--replication")
    assert re.search(r"^1\s.*\bLeader\b", replication, re.MULTILINE), replication
    assert str(broker.port) in tool("kafka-cluster", "list-endpoints")
    assert "Feature: no.such.feature" not in tool("kafka-features", "describe")
    refused = tool("kafka-features", "upgrade", "--feature", "group.version=99")
    assert "Could not upgrade" in refused or "Invalid update version 99" in refused, refused
    versions = tool("kafka-broker-api-versions")
    assert "UNSUPPORTED" in versions and re.search(r"Produce\(0\): 0 to 1[34]", versions), versions


def test_acls_are_disabled(tool):
    """Without an authorizer there are no access rules."""
    assert "SecurityDisabledException" in tool("kafka-acls", "--list")


def test_producers_of_a_partition(tool, topic, broker):
    """An idempotent producer shows with its last sequence."""
    create_topic(broker.bootstrap, topic)
    Confluent().produce(broker.bootstrap, topic, TEN_RECORDS)
    printed = tool("kafka-transactions", "describe-producers", "--topic", topic, "--partition", 0)
    header, row = (line.split("\t") for line in printed.strip().splitlines()[-2:])
    producer = {name.strip(): value.strip() for name, value in zip(header, row)}
    assert producer["ProducerEpoch"] == "0" and producer["LastSequence"] == "9", printed


@pytest.mark.highwater_only("Kafka asks for no metrics until a subscription is made")
def test_client_metrics(start_broker, topic):
    """The Java client and librdkafka push their metrics by themselves, and they show with the clients' ids."""
    broker = start_broker({"telemetry_push_interval_ms": 500})
    create_topic(broker.bootstrap, topic)
    assert "Error" not in run_tool(broker, "kafka-client-metrics", "--list")
    # A client that ends pushes once more, so the tool's metrics are there whatever its interval is.
    run_tool(broker, "kafka-producer-perf-test", "--topic", topic, "--num-records", 100, "--record-size", 100,
             "--throughput", 20)  # fmt: skip

    def shown(client_id: str) -> list[str]:
        text = requests.get(f"{broker.http}/metrics", timeout=10).text
        assert text.endswith("# EOF\n")
        return re.findall(rf'^(highwater_client_\w+)\{{client_id="{client_id}"', text, re.MULTILINE)

    java = wait_until(lambda: shown("perf-producer-client"), "the Java producer's metrics show")
    assert any(name.startswith("highwater_client_producer_") for name in java), java
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap, "client.id": "librdkafka-producer"})

    def pushed() -> list[str]:
        producer.produce(topic, b"value")
        producer.poll(0.1)
        return shown("librdkafka-producer")

    librdkafka = wait_until(pushed, "librdkafka's metrics show", 30)
    assert any(name.startswith("highwater_client_producer_") for name in librdkafka), librdkafka


def test_quotas_hold_producers_up(start_broker, topic):
    """A producer over its quota is told to wait, by every client's own reckoning."""
    broker = start_broker()
    create_topic(broker.bootstrap, topic)
    limited = run_tool(broker, "kafka-configs", "--alter", "--entity-type", "clients", "--entity-name", "limited",
                       "--add-config", "producer_byte_rate=10000")  # fmt: skip
    assert "Completed updating" in limited, limited
    throttled = []

    def produce(client_id: str) -> None:
        producer = confluent_kafka.Producer({
            "bootstrap.servers": broker.bootstrap, "client.id": client_id, "linger.ms": 5,
            "throttle_cb": lambda event: throttled.append((client_id, event.throttle_time)),
        })  # fmt: skip
        # Twelve seconds' worth, where ten may go at once.
        for _ in range(12):
            producer.produce(topic, b"x" * 10_000)
            producer.flush(30)
        wait_until(lambda: producer.poll(0.05) or throttled or client_id == "free", "an event of throttling", 10)

    produce("free")
    assert not throttled
    produce("limited")
    assert throttled and all(client == "limited" and time > 0 for client, time in throttled), throttled
