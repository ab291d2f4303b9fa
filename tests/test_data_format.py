"""docs/data-format.md against a data directory: every file is on the page, and its bytes are those of the tables.

The files are read by the page's own tables: what a field is called, how many bytes it has, of which type.
"""

import json
import re
import struct
from pathlib import Path

import pytest
import requests
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka.record.util import calc_crc32c as crc32c

from harness.admin import create_topic
from harness.broker import REPOSITORY, Highwater, wait_until
from harness.kafka_tools import run_tool

pytestmark = pytest.mark.highwater_only("the files are Highwater's")

PAGE = (REPOSITORY / "docs" / "data-format.md").read_text()
# struct's letters for the page's types.
TYPES = {"i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q"}
# Endings of files that are there during a compaction or after a crash only, and are told of beside the tree.
PASSING = {".tmp", ".deleted", ".cleaned", ".swap"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The data directory of a broker that has had to do with everything, been damaged, repaired, and stopped."""
    broker = Highwater(tmp_path_factory.mktemp("format"), {"log.cleaner.backoff.ms": 50, "scrub_period_ms": 1000}).start()
    config = {"cleanup.policy": "compact", "segment.bytes": 2000, "min.cleanable.dirty.ratio": 0.01}
    create_topic(broker.bootstrap, "table", config=config)
    create_topic(broker.bootstrap, "orders", config={"segment.bytes": 2000})
    transactional = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": "mover"})
    transactional.init_transactions(30)
    for number in range(12):
        transactional.begin_transaction()
        for topic in ("table", "orders"):
            transactional.produce(topic, b"%03d" % number * 200, b"key", partition=0)
        transactional.flush(30)
        (transactional.abort_transaction if number % 3 else transactional.commit_transaction)(30)
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": "billing", "enable.auto.commit": False}
    consumer = Consumer(settings)
    consumer.commit(offsets=[TopicPartition("orders", 0, 1)], asynchronous=False)
    consumer.close()
    objective = {"lag_seconds_objective": 30, "target": 0.99, "window_seconds": 3600}
    assert requests.put(f"{broker.http}/api/v1/slos/billing", json=objective, timeout=30).ok
    changed = {"set": {"log.retention.ms": "1000000000000"}}
    assert requests.patch(f"{broker.http}/api/v1/broker/configs", json=changed, timeout=30).ok
    client = ("--entity-type", "clients", "--entity-name", "writer")
    run_tool(broker, "kafka-configs", "--alter", *client, "--add-config", "producer_byte_rate=1048576")
    orders = broker.data_dir / "topics" / "orders-0"
    wait_until((broker.data_dir / "topics" / "table-0" / "compaction").exists, "a log is compacted")
    wait_until((broker.data_dir / "scrub.json").exists, "the scrub notes where it is")
    assert broker.stop() == 0
    damage(sorted(orders.glob("*.log"))[1])
    broker.cli("repair", "orders-0", "--skip-holes", "--data-dir", broker.data_dir)
    broker.start()
    assert broker.stop() == 0
    yield broker.data_dir
    broker.discard()


def damage(segment: Path) -> None:
    """Flips a bit in the last byte of the first batch."""
    content = bytearray(segment.read_bytes())
    content[int.from_bytes(content[8:12], "big") + 11] ^= 1
    segment.write_bytes(content)


def files(data: Path) -> set[str]:
    """What lies in the directory, by the names that the page has for it."""
    names = set()
    for path in data.rglob("*"):
        if path.is_file():
            name = re.sub(r"[\w.]+-\d+(?=/|\.\d{20})", "orders-0", str(path.relative_to(data)), count=1)
            name = re.sub(r"quarantine/(topics\.)?", "quarantine/topics.", name)
            names.add(re.sub(r"\d{20}", "N", re.sub(r"\.\d+$", ".512", name)))
    return names


def tree() -> set[str]:
    """The files of the page's tree."""
    [block] = re.findall(r"^## The data directory\n\n```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    names, directory = set(), ""
    for line in block.splitlines():
        name = line.split()[0]
        if name.endswith("/"):
            directory = name
        else:
            directory = directory if line.startswith(" ") else ""
            names.add(re.sub(r"\d{20}", "N", directory + name))
    return names


def test_every_file_of_a_data_directory_is_on_the_page(data):
    """And none that is not there, but for what is said of damage: here it was repaired."""
    found, damage = files(data), "topics/orders-0/damage.json"
    assert damage not in found and found | {damage} == tree()
    assert all(f"`{ending}`" in PAGE for ending in PASSING)


class Layout:
    """A byte table of the page: for each of its rows the types, and what is said of them."""

    def __init__(self, head: str, nth: int = 0):
        table = re.findall(rf"^\| {re.escape(head)} \|.*\n\|[-:|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)[nth]
        self.rows: dict[str, struct.Struct] = {}
        at = 0
        for row in table.splitlines():
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            if head == "at":
                assert int(cells[0]) == at, row
                size, name, types = cells[1:4]
            else:
                name, size, types = cells[:3]
            if size == "…":
                continue
            letters = [TYPES[kind] * int(count or 1) for kind, count in re.findall(r"([iu]\d+)(?: × (\d+))?", types)]
            self.rows[name] = struct.Struct(">" + "".join(letters))
            assert self.rows[name].size == int(size), f"{row}: the types have other bytes"
            at += int(size)


class Content:
    """A file that is read front to back, by a table."""

    def __init__(self, layout: Layout, content: bytes, at: int = 0):
        self.layout, self.content, self.begin, self.at = layout, content, at, at

    def take(self, name: str) -> tuple:
        """The values of a row."""
        row = self.layout.rows[name]
        self.at += row.size
        return row.unpack_from(self.content, self.at - row.size)

    def all(self) -> dict:
        """The values of a table that is taken from its first row to its last."""
        return {name: self.take(name)[0] for name in self.layout.rows}

    def begins_with(self, magic: bytes, version: int) -> None:
        """The first two rows of most files."""
        assert self.take("magic")[0].to_bytes(4, "big") == magic and self.take("version") == (version,)
        assert f"`{magic.decode()}`" in PAGE

    def ends_checked(self) -> None:
        """The last row is the checksum of all before, and nothing follows."""
        before = crc32c(self.content[self.begin : self.at])
        assert self.take("checksum") == (before,) and self.at == len(self.content)


def partition(data: Path, topic: str = "orders") -> Path:
    return data / "topics" / f"{topic}-0"


def test_batches_are_those_of_the_table(data):
    """Length, checksum, and offsets that join, from the first segment to the last."""
    layout = Layout("at", 0)
    for topic in ("orders", "table"):
        expected = None
        for segment in sorted(partition(data, topic).glob("*.log")):
            content, at = segment.read_bytes(), 0
            assert expected in (None, int(segment.stem))
            while at < len(content):
                batch = Content(layout, content, at).all()
                end = at + 12 + batch["batch length"]
                assert batch["magic"] == 2 and batch["partition leader epoch"] == 0
                assert batch["CRC"] == crc32c(content[at + 21 : end])
                assert expected in (None, batch["base offset"])
                expected, at = batch["base offset"] + batch["last offset delta"] + 1, end
            assert at == len(content), "the blocks behind the end are given back"


def test_indexes_are_those_of_the_tables(data):
    """The header and each block, whose checksums go on from one another; each entry leads to a batch."""
    header, block = Layout("at", 1), Layout("at", 2)
    for kind, suffix in enumerate(["index", "timeindex"]):
        for path in partition(data).glob(f"*.{suffix}"):
            content = path.read_bytes()
            file = Content(header, content)
            fields = file.all()
            assert fields["magic"].to_bytes(4, "big") == b"HWIX"
            assert (fields["version"], fields["kind"], fields["base offset"]) == (1, kind, int(path.stem))
            checksum = fields["checksum"]
            assert checksum == crc32c(content[:20])
            at = file.at
            while at < len(content):
                head = Content(block, content, at).all()
                entries = content[at + 8 : at + 8 + head["entries"] * (16 if kind else 8)]
                assert head["checksum"] == crc32c_from(checksum, content[at : at + 4] + entries)
                checksum, at = head["checksum"], at + 8 + len(entries)


def crc32c_from(checksum: int, more: bytes) -> int:
    """The CRC-32C that goes on from another one."""
    crc = checksum ^ 0xFFFFFFFF
    for byte in more:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_the_checkpoint_is_that_of_the_table(data):
    """One slot at least, at 0 or at 4096; after a clean stop it says where the log ends."""
    content = (partition(data) / "checkpoint").read_bytes()
    slots = []
    for number, at in enumerate([0, 4096]):
        if content[at : at + 4] == b"HWCP":
            slot = Content(Layout("at", 3), content, at).all()
            assert slot["checksum"] == crc32c(content[at : at + 60])
            assert slot["version"] == 1 and slot["sequence"] % 2 == number
            slots.append(slot)
    newest = max(slots, key=lambda slot: slot["sequence"])
    last = sorted(partition(data).glob("*.log"))[-1]
    assert (newest["segment"], newest["position"]) == (int(last.stem), last.stat().st_size)
    assert f"orders-0 {newest['durable end']}\n" in (data / "clean-shutdown").read_text()


def test_the_other_files_of_a_partition_are_those_of_their_tables(data):
    """Leader epochs, how far the log is compacted, aborted transactions, the producers' state."""
    epochs = Content(Layout("`leader-epochs`"), (partition(data) / "leader-epochs").read_bytes())
    epochs.begins_with(b"HWLE", 1)
    assert [epochs.take("an entry") for _ in range(*epochs.take("count"))] == [(0, 0)]
    epochs.ends_checked()

    compacted = Content(Layout("`compaction`"), (partition(data, "table") / "compaction").read_bytes())
    compacted.begins_with(b"HWCL", 1)
    assert compacted.take("first dirty offset")[0] > 0
    compacted.ends_checked()

    aborted = {}
    for path in partition(data).glob("*.aborted"):
        file = Content(Layout("`.aborted`"), path.read_bytes())
        file.begins_with(b"HWAT", 1)
        assert file.take("base offset") == (int(path.stem),)
        transactions = [file.take("a transaction") for _ in range(*file.take("count"))]
        assert all(first < last < stable for _, first, last, stable in transactions)
        file.ends_checked()
        if transactions:
            aborted[int(path.stem)] = len(transactions)
    assert sum(aborted.values()) == 8

    newest = sorted(partition(data).glob("*.producers"))[-1]
    file = Content(Layout("`.producers`"), newest.read_bytes())
    file.begins_with(b"HWPS", 2)
    assert file.take("offset") == (int(newest.stem),)
    [producers], [segments] = file.take("producers"), file.take("files")
    for _ in range(producers):
        for _ in range(file.take("a producer")[-1]):
            first, last, base, end, _ = file.take("a batch of it, oldest first")
            assert end - base == last - first
    assert dict(file.take("a segment") for _ in range(segments)) == aborted
    file.ends_checked()


def test_the_text_files_are_as_described(data):
    """Every key of every JSON file has its word on the page; the clean marker's checksum is that of its lines."""
    described = dict(re.findall(r"^\| `([\w.-]+\.json)` \| (.+) \|$", PAGE, re.MULTILINE))
    for path in [*data.glob("*.json"), *partition(data).glob("*.json")]:
        words = set(re.findall(r"`(\w+)`", described[path.name]))
        content = json.loads(path.read_text())
        fields = set(content)
        for name in ("losses", "next", "last", "default"):
            values = content.get(name) or {}
            for value in values if isinstance(values, list) else [values]:
                fields |= set(value) if isinstance(value, dict) else set()
        assert fields <= words | {"format"}, path.name
    lines, checksum = (data / "clean-shutdown").read_bytes().rsplit(b"checksum ", 1)
    assert lines.startswith(b"highwater clean-shutdown 1\n") and int(checksum, 16) == crc32c(lines)
