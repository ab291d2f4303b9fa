"""Opens an image of a power cut with the real binary and holds what is there against the ledger."""

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import KafkaException, Producer

from harness.broker import Highwater, end_with_parent

from .filesystems import Filesystem
from .ledger import Ledger
from .survey import Unreadable, survey

DATA_DIR = "data"
VERIFY_TIMEOUT_S = 60


class Checker:
    """Checks images one after the other, in a directory of its own."""

    def __init__(self, directory: Path, settings: dict, filesystem: Filesystem):
        directory.mkdir()
        self._filesystem = filesystem
        self.image = directory / "image"
        self.mount_point = directory / "mnt"
        self.broker = Highwater(directory / "broker", settings, self.mount_point / DATA_DIR)

    def check(self, ledger: Ledger, position: int) -> list[str]:
        """What is wrong with the image, to which the ledger's promises up to `position` apply."""
        with ExitStack() as opened:
            try:
                opened.enter_context(self._filesystem.opened(self.image, self.mount_point))
            except OSError as error:
                return [f"the filesystem cannot be mounted: {error}"]
            return self._verify() + self._serve(ledger, position)

    def _verify(self) -> list[str]:
        if not (self.broker.data_dir / "meta.json").exists():
            return []
        result = subprocess.run(
            [str(Highwater.binary()), "verify", "--json", "--data-dir", str(self.broker.data_dir)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=VERIFY_TIMEOUT_S,
            preexec_fn=end_with_parent,
        )  # fmt: skip
        if result.returncode == 0:
            return []
        damage = [line for line in result.stdout.splitlines() if json.loads(line).get("severity") == "damage"]
        return [f"verify ends with {result.returncode}: {damage[:3]} {result.stderr.strip()[-500:]}"]

    def _serve(self, ledger: Ledger, position: int) -> list[str]:
        self.broker.log_path.unlink(missing_ok=True)
        try:
            self.broker.start()
            found = survey(self.broker.bootstrap, ledger.commits)
            return ledger.broken(found, position) + self._append(found) + self._errors()
        except (AssertionError, Unreadable) as error:
            return [f"the broker does not serve: {error}\n{self.broker.log_tail(20)}"]
        finally:
            if self.broker.process is not None:
                self.broker.kill()

    def _errors(self) -> list[str]:
        """What the broker itself takes for an error. After a power cut nothing is one."""
        lines = self.broker.log_path.read_text(errors="replace").splitlines()
        return [f"the broker says {line}" for line in lines if " ERROR " in line]

    def _append(self, found) -> list[str]:
        """Whether every partition takes another record."""
        refused = []
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "acks": "all", "linger.ms": 0, "log_level": 0,
                             "message.timeout.ms": 10_000})  # fmt: skip
        for name, partitions in found.topics.items():
            for index, (log_start, records) in enumerate(partitions):
                report = _placed(refused, log_start + len(records))
                producer.produce(name, b"one more", partition=index, on_delivery=report)
        try:
            if producer.flush(20) != 0:
                refused.append("no answer to an append")
        except KafkaException as error:
            refused.append(str(error))
        return refused


def _placed(refused: list[str], offset: int):
    """A delivery report that complains if the record is not at this offset."""

    def delivered(error, message) -> None:
        where = f"{message.topic()}-{message.partition()}"
        if error:
            refused.append(f"{where} takes no record: {error}")
        elif message.offset() != offset:
            refused.append(f"{where}: the next record goes to {message.offset()}, {offset} was due")

    return delivered
