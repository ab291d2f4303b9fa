"""A broker as a process: started, stopped, killed and started again on the same ports and directory.

Two kinds behind one face: Highwater, which is what the tests are about, and Apache Kafka, which proves the tests.
Settings are given by Kafka's names; each kind translates them.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import requests
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from .admin import forget_admin
from .ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
KAFKA_JARS = REPOSITORY / "tests" / "kafka" / "target" / "jars"

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def end_with_parent() -> None:
    """Run in a child before exec: the kernel ends it when the thread that started it ends, however that happens.

    So a broker must be started by a thread that outlives it; the tests start theirs in pytest's main thread.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition, what: str, timeout_s: float = 30.0, interval_s: float = 0.05):
    """Polls `condition` until it is truthy and returns its value. `what` names it in the failure."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(interval_s)


class Broker:
    """What both kinds share. `settings` has Kafka's broker settings by Kafka's names."""

    kind = ""

    def __init__(self, directory: Path, settings: dict | None = None, data_dir: Path | None = None):
        self.directory = directory
        self.data_dir = data_dir or directory / "data"
        # The tests' records carry times long past; what acts on them is tested where a topic asks for it.
        self.settings = {"log.retention.ms": -1, **(settings or {})}
        self.port = free_port()
        self.log_path = directory / "broker.log"
        self.process: subprocess.Popen | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def bootstrap(self) -> str:
        """What a client connects to."""
        return f"127.0.0.1:{self.port}"

    def start(self, wait: bool = True) -> "Broker":
        """Starts the process and, unless told otherwise, waits until it serves."""
        assert self.process is None, "already started"
        forget_admin(self.bootstrap)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self.directory,
                preexec_fn=end_with_parent,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Returns when the broker serves; fails with its log when it ended instead."""

        def ready() -> bool:
            status = self.process.poll()
            assert status is None, f"the broker ended with {status} at start:\n{self.log_tail()}"
            return self._is_ready()

        try:
            wait_until(ready, f"{self.kind} serves on {self.bootstrap}", START_TIMEOUT_S, 0.02)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_tail()}") from None

    def terminate(self) -> None:
        """Sends SIGTERM and does not wait."""
        self.process.send_signal(signal.SIGTERM)

    def wait_stopped(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Waits for the process to end and returns its exit status."""
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running {timeout_s} s after SIGTERM:\n{self.log_tail()}") from None
        self.process = None
        return status

    def stop(self) -> int:
        """SIGTERM, then the exit status."""
        self.terminate()
        return self.wait_stopped()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def is_running(self) -> bool:
        """Whether the process that was started is still there."""
        return self.process is not None and self.process.poll() is None

    def discard(self) -> None:
        """Ends the process if it runs and removes its data; the log stays."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def memory_bytes(self) -> dict[str, int]:
        """Resident memory: VmRSS is all of it, RssAnon the process's own, without what maps share with the page cache."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon", "RssFile")}

    def resident_bytes(self) -> int:
        """Resident memory of the process's own."""
        return self.memory_bytes()["RssAnon"]

    def cpu_seconds(self) -> float:
        """Processor time that all threads of the process have used so far, in user mode and in the kernel."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log_tail(self, lines: int = 60) -> str:
        """The end of the process's output."""
        if not self.log_path.exists():
            return "(no log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def cli(self, *arguments, stdin=None, timeout_s: float = 120, check: bool = True) -> subprocess.CompletedProcess:
        """Runs `highwater ARGUMENTS`, whichever kind of broker this is, and returns what it printed."""
        result = subprocess.run(
            [str(Highwater.binary()), *map(str, arguments)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout_s,
            preexec_fn=end_with_parent,
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"highwater {' '.join(map(str, arguments))} ended with {result.returncode}:\n"
                f"{result.stdout[-2000:].decode(errors='replace')}\n{result.stderr[-2000:].decode(errors='replace')}"
            )
        return result

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _is_ready(self) -> bool:
        raise NotImplementedError


class Highwater(Broker):
    """The binary `highwater`, as a user starts it."""

    kind = "highwater"

    # Kafka's name of a broker setting → ours (log-server/src/config.rs).
    SETTING_NAMES = {
        "auto.create.topics.enable": "auto_create_topics",
        "compression.type": "compression_type",
        "group.consumer.heartbeat.interval.ms": "group_consumer_heartbeat_interval_ms",
        "group.consumer.migration.policy": "group_consumer_migration",
        "group.consumer.session.timeout.ms": "group_consumer_session_timeout_ms",
        "group.initial.rebalance.delay.ms": "group_initial_rebalance_delay_ms",
        "group.min.session.timeout.ms": "group_session_timeout_min_ms",
        "log.cleaner.backoff.ms": "compaction_interval_ms",
        "log.cleaner.dedupe.buffer.size": "compaction_buffer_bytes",
        "log.cleaner.io.max.bytes.per.second": "compaction_bytes_per_second_max",
        "log.message.timestamp.after.max.ms": "timestamp_after_max_ms",
        "log.message.timestamp.before.max.ms": "timestamp_before_max_ms",
        "log.message.timestamp.type": "timestamp_type",
        "log.retention.check.interval.ms": "housekeeping_interval_ms",
        "log.retention.ms": "retention_ms",
        "log.segment.bytes": "segment_bytes",
        "message.max.bytes": "message_bytes_max",
        "num.partitions": "partitions_default",
        "transaction.max.timeout.ms": "transaction_timeout_max_ms",
        "transaction.state.log.num.partitions": "transaction_partitions",
    }

    # What Kafka has and we do not: bounds of settings, which are taken as they are, and how often it looks for what we
    # do when it is due.
    NOT_NEEDED = {
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.min.session.timeout.ms",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
    }

    def __init__(self, directory: Path, settings: dict | None = None, data_dir: Path | None = None):
        super().__init__(directory, settings, data_dir)
        self.http_port = free_port()

    @property
    def http(self) -> str:
        """Base address of metrics, health and the JSON API."""
        return f"http://127.0.0.1:{self.http_port}"

    @staticmethod
    def binary() -> Path:
        """The binary under test: HIGHWATER_BIN, or the release build."""
        path = Path(os.environ.get("HIGHWATER_BIN", REPOSITORY / "target" / "release" / "highwater"))
        assert path.is_file(), f"{path} is missing: cargo build --release --bin highwater"
        return path

    def serve_command(self) -> list[str]:
        """The command line of `highwater serve` for this broker."""
        command = [
            str(self.binary()), "serve",
            "--data-dir", str(self.data_dir),
            "--listen", self.bootstrap,
            "--http", f"127.0.0.1:{self.http_port}",
        ]  # fmt: skip
        for name, value in self.settings.items():
            if name in self.NOT_NEEDED:
                continue
            name = self.SETTING_NAMES.get(name, name)
            value = str(value).lower() if isinstance(value, bool) else str(value)
            command.append(f"--{name.replace('_', '-')}={value}")
        return command

    def _command(self) -> list[str]:
        return self.serve_command()

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.http}/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return False


class ApacheKafka(Broker):
    """One Kafka node that is broker and controller, from the jars that tests/setup brought."""

    kind = "kafka"

    # Small and soon up: the tests start it often and ask little of it.
    JVM_OPTIONS = ["-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    DEFAULTS = {
        "auto.create.topics.enable": True,
        "group.initial.rebalance.delay.ms": 0,
        "log.retention.check.interval.ms": 1000,
        "log.segment.delete.delay.ms": 100,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
    }

    # Of what formats the data directory.
    FORMAT_OPTIONS: list[str] = []

    def __init__(self, directory: Path, settings: dict | None = None, data_dir: Path | None = None):
        super().__init__(directory, settings, data_dir)
        self.controller_port = free_port()
        self.properties = directory / "server.properties"

    def start(self, wait: bool = True) -> "Broker":
        if not self.properties.exists():
            self.format()
        return super().start(wait)

    def format(self) -> None:
        """Writes the settings and prepares the data directory, which the first start does otherwise."""
        controller = f"127.0.0.1:{self.controller_port}"
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": self.data_dir,
            **self.DEFAULTS,
            **self.settings,
        }
        self.properties.write_text(
            "".join(
                f"{name}={str(value).lower() if isinstance(value, bool) else value}\n" for name, value in values.items()
            )
        )
        subprocess.run(
            self._java("kafka.tools.StorageTool", "format", "--cluster-id", "4L6g3nShT-eMCtK--X86sw",
                       "--config", str(self.properties), *self.FORMAT_OPTIONS),
            stdin=subprocess.DEVNULL, check=True, capture_output=True, preexec_fn=end_with_parent,
        )  # fmt: skip

    def _java(self, *arguments: str) -> list[str]:
        assert KAFKA_JARS.is_dir(), f"{KAFKA_JARS} is missing: tests/setup brings it"
        logging = REPOSITORY / "tests" / "kafka" / "log4j2.properties"
        logging = f"-Dlog4j2.configurationFile={logging}"
        return ["java", *self.JVM_OPTIONS, logging, "-cp", f"{KAFKA_JARS}/*", *arguments]

    def _command(self) -> list[str]:
        return self._java("kafka.Kafka", str(self.properties))

    def _is_ready(self) -> bool:
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200})
        try:
            return bool(client.list_topics(timeout=2).brokers)
        except KafkaException:
            return False


class ApacheKafkaWithFirstTransactions(ApacheKafka):
    """Kafka as it was before KIP-890: clients add partitions to transactions by themselves."""

    kind = "kafka-first-transactions"
    FORMAT_OPTIONS = ["--feature", "transaction.version=1"]
