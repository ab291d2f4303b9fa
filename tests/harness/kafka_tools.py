"""Apache Kafka's console tools, as their scripts start them: a Java class with arguments."""

import subprocess

from .broker import KAFKA_JARS, REPOSITORY, end_with_parent

TIMEOUT_S = 120

# The script's name → the class that it starts.
TOOLS = {
    "kafka-acls": "org.apache.kafka.tools.AclCommand",
    "kafka-broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "kafka-client-metrics": "org.apache.kafka.tools.ClientMetricsCommand",
    "kafka-cluster": "org.apache.kafka.tools.ClusterTool",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-consumer-perf-test": "org.apache.kafka.tools.ConsumerPerformance",
    "kafka-delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "kafka-features": "org.apache.kafka.tools.FeatureCommand",
    "kafka-get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "kafka-leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "kafka-log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "kafka-metadata-quorum": "org.apache.kafka.tools.MetadataQuorumCommand",
    "kafka-producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
    "kafka-reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-transactions": "org.apache.kafka.tools.TransactionsCommand",
}


def run_tool(broker, tool: str, *arguments, stdin: str | None = None) -> str:
    """Runs a tool against a broker and returns all that it printed, on either stream."""
    logging = REPOSITORY / "tests" / "kafka" / "log4j2.properties"
    command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
               f"-Dlog4j2.configurationFile={logging}", "-cp", f"{KAFKA_JARS}/*", TOOLS[tool]]  # fmt: skip
    bootstrap = ["--bootstrap-server", broker.bootstrap]
    # Most tools take options anywhere; one with subcommands wants them before it, another one behind it.
    arguments = list(map(str, arguments))
    arguments = arguments + bootstrap if tool == "kafka-cluster" else bootstrap + arguments
    result = subprocess.run(
        [*command, *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        preexec_fn=end_with_parent,
    )
    return result.stdout
