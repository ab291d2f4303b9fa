"""Clients in other languages: the program to start, and which version it is built on."""

import json
import os
import re

from harness.broker import KAFKA_JARS, REPOSITORY

from .client import NotInClient, Program

HERE = REPOSITORY / "tests" / "compat"
NODE = REPOSITORY / "tests" / "node"


def _npm_version(package: str) -> str:
    return json.loads((NODE / "package.json").read_text())["dependencies"][package]


class KafkaJs(Program):
    name = "kafkajs"
    version = _npm_version("kafkajs")
    absent = {"group, KIP-848": "classic groups only"}

    def command(self):
        return ["node", str(HERE / "node" / "driver.mjs"), "kafkajs"]


class ConfluentJs(Program):
    name = "@confluentinc/kafka-javascript"
    version = _npm_version("@confluentinc/kafka-javascript")
    keeps_empty = False

    def topic_config(self, topic, name):
        raise NotInClient

    def grow_topic(self, topic, partitions):
        raise NotInClient

    def command(self):
        return ["node", str(HERE / "node" / "driver.mjs"), "confluent"]


class Java(Program):
    name = "java"
    version = re.search(r"<kafka.version>(.*?)<", (REPOSITORY / "tests/kafka/pom.xml").read_text()).group(1)

    def command(self):
        logging = REPOSITORY / "tests" / "kafka" / "log4j2.properties"
        return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={logging}",
                "-cp", os.pathsep.join([str(HERE / "java" / "target"), f"{KAFKA_JARS}/*"]), "Compat"]  # fmt: skip


class FranzGo(Program):
    name = "franz-go"
    version = re.search(r"franz-go v(\S+)", (HERE / "go" / "go.mod").read_text()).group(1)

    def command(self):
        return [str(HERE / "go" / "target" / "compat")]


class LogClient(Program):
    name = "log-client"
    version = re.search(r'^version = "(.*)"', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE).group(1)

    def command(self):
        return [str(REPOSITORY / "target" / "debug" / "examples" / "compat")]
