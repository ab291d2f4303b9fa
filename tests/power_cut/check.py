"""Opens an image of a power cut with the real binary and holds what is there against the ledger."""

from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from harness.broker import Highwater

from .batches import batches, segments, send
from .filesystems import Filesystem
from .ledger import COMPACTED, Found, Ledger
from .survey import Unreadable, survey
from .tools import repair, verify

DATA_DIR = "data"
CREATE_TIMEOUT_S = 30
# So many producers of a partition are asked about.
PRODUCERS_MAX = 4


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
            return self._look(ledger, position) + self._serve(ledger, position)

    def _look(self, ledger: Ledger, position: int) -> list[str]:
        """What is wrong with the files."""
        if not (self.broker.data_dir / "meta.json").exists():
            return []
        return repair(self.broker.data_dir, ledger.in_repair(position)) + verify(self.broker.data_dir)

    def _serve(self, ledger: Ledger, position: int) -> list[str]:
        self.broker.log_path.unlink(missing_ok=True)
        try:
            self.broker.start()
            found = survey(self.broker.bootstrap, self.broker.data_dir, ledger.commits)
            wrong = ledger.broken(found, position) + self._send_again(found)
            return wrong + self._append(found) + self._make_again(ledger, found) + self._errors()
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
                producer.produce(name, b"one more", b"one more", index, on_delivery=report)
        try:
            if producer.flush(20) != 0:
                refused.append("no answer to an append")
        except KafkaException as error:
            refused.append(str(error))
        return refused

    def _send_again(self, found: Found) -> list[str]:
        """Whether the last batch of each producer is known when it comes again."""
        places, offsets = [], []
        for name, partitions in found.topics.items():
            # A compacted batch is not the one that was sent any more.
            for index, (log_start, records) in enumerate(partitions) if not name.startswith(COMPACTED) else ():
                for offset, batch in self._last_batches(name, index, log_start, log_start + len(records)):
                    places.append((name, index, batch))
                    offsets.append(offset)
        answers = send(self.broker.bootstrap, places)
        return [
            f"{name}-{index}: the batch at {offset} comes again and is answered with error {error}, offset {there}"
            for (name, index, _), offset, (error, there) in zip(places, offsets, answers)
            if error or there != offset
        ]

    def _last_batches(self, name: str, index: int, log_start: int, end: int) -> list[tuple[int, bytes]]:
        """The last batches of a partition's last producers, with their offsets."""
        last = {}
        for path in segments(self.broker.data_dir / "topics" / f"{name}-{index}"):
            for batch in batches(path):
                if batch.producer >= 0 and batch.is_plain and log_start <= batch.base_offset < end:
                    last[batch.producer] = (path, batch)
        return [
            (batch.base_offset, path.read_bytes()[batch.position : batch.position + batch.size])
            for path, batch in sorted(last.values(), key=lambda one: one[1].base_offset)[-PRODUCERS_MAX:]
        ]

    def _make_again(self, ledger: Ledger, found: Found) -> list[str]:
        """Whether topics that are not there are empty when they are made."""
        missing = [name for name in ledger.topics if name not in found.topics and not name.startswith("__")]
        if not missing:
            return []
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        for made in admin.create_topics([NewTopic(name, 2, 1) for name in missing]).values():
            made.result(CREATE_TIMEOUT_S)
        again = survey(self.broker.bootstrap, self.broker.data_dir, ()).topics
        return [f"{name}: made again with {again[name]}" for name in missing if again[name] != [(0, [])] * 2]


def _placed(refused: list[str], offset: int):
    """A delivery report that complains if the record is not at this offset."""

    def delivered(error, message) -> None:
        where = f"{message.topic()}-{message.partition()}"
        if error:
            refused.append(f"{where} takes no record: {error}")
        elif message.offset() != offset:
            refused.append(f"{where}: the next record goes to {message.offset()}, {offset} was due")

    return delivered
