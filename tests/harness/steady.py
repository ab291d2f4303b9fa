"""Producers that send a numbered message each interval until they are told to stop, and what became of each.

Both clients run as people run them: acks=all, idempotent, several requests on their way, their own retries.
"""

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Producer

from .broker import KAFKA_JARS, end_with_parent

TESTS = Path(__file__).resolve().parents[1]
TIMEOUT_S = 120


class Acknowledged(NamedTuple):
    """Where a message is, and how long it took from the call until that was known."""

    offset: int
    seconds: float


class Steady:
    """One producer on a thread of its own. `acknowledged` and `failed` are by the message's number."""

    def __init__(self, bootstrap: str, topic: str, interval_s: float):
        self.topic = topic
        self.acknowledged: dict[int, Acknowledged] = {}
        self.failed: dict[int, str] = {}
        self._bootstrap, self._interval_s = bootstrap, interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Sends no more, and waits until all that was sent has been answered for."""
        self._stop.set()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), f"{self.topic}: not all is answered for"

    def check(self, numbers: list[int]) -> None:
        """`numbers`, as read from the topic, hold what was acknowledged where it was, each once and in order."""
        assert not self.failed, list(self.failed.items())[:3]
        assert numbers == list(range(len(numbers))), f"{self.topic}: lost, doubled or out of order"
        assert len(self.acknowledged) == len(numbers)
        for number, place in self.acknowledged.items():
            assert numbers[place.offset] == number, f"{self.topic}: {number} is not at offset {place.offset}"

    def _run(self) -> None:
        raise NotImplementedError


class Rdkafka(Steady):
    """librdkafka."""

    def _run(self) -> None:
        producer = Producer({"bootstrap.servers": self._bootstrap, "enable.idempotence": True, "log_level": 0})
        number, due = 0, time.monotonic()
        while not self._stop.is_set():
            producer.produce(self.topic, f"{number}:", partition=0, on_delivery=self._told(number, time.monotonic()))
            number += 1
            due += self._interval_s
            while (wait := due - time.monotonic()) > 0:
                producer.poll(wait)
            producer.poll(0)
        producer.flush(TIMEOUT_S)

    def _told(self, number: int, began: float):
        def told(error, message):
            if error:
                self.failed[number] = str(error)
            else:
                self.acknowledged[number] = Acknowledged(message.offset(), time.monotonic() - began)

        return told


class Java(Steady):
    """Kafka's own client."""

    def _run(self) -> None:
        classes = TESTS / "java" / "target"
        assert (classes / "Steady.class").is_file(), "tests/setup compiles it"
        logging = TESTS / "kafka" / "log4j2.properties"
        command = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={logging}",
                   "-cp", os.pathsep.join([str(classes), f"{KAFKA_JARS}/*"]), "Steady",
                   self._bootstrap, self.topic, str(round(self._interval_s * 1000))]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   text=True, preexec_fn=end_with_parent)  # fmt: skip
        closer = threading.Thread(target=lambda: (self._stop.wait(), process.stdin.close()), daemon=True)
        closer.start()
        for line in process.stdout:
            # Between them is what the client logs.
            match line.split(maxsplit=3):
                case ["done", number, offset, microseconds]:
                    self.acknowledged[int(number)] = Acknowledged(int(offset), int(microseconds) / 1e6)
                case ["failed", number, *reason]:
                    self.failed[int(number)] = " ".join(reason)
        process.wait()


CLIENTS = {"librdkafka": Rdkafka, "java": Java}
