"""A sector of the disk that cannot be read any more: what is beside it is served all the same."""

import os
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from harness.admin import create_topic
from harness.broker import Highwater, end_with_parent, wait_until
from harness.ledger import PERSISTENT
from power_cut import mounts
from power_cut.disk import format_image
from power_cut.loop import loop_device

pytestmark = pytest.mark.highwater_only("the files are Highwater's")

TOPIC = "history"
MESSAGES = 1000
VALUE_BYTES = 10_000
# In the middle of the third huge page of the segment, which nothing reads but as a whole.
BAD_AT = 5 << 20
BLOCK = 4096
PLUGIN = Path(mounts.__file__).with_name("bad_sector_plugin.py")


def value(number: int) -> bytes:
    """What a message says: its number, again and again."""
    return (b"%08d|" % number * VALUE_BYTES)[:VALUE_BYTES]


def test_what_is_beside_a_bad_sector_is_served(tmp_path):
    """To a consumer from the front, for whom whole huge pages are read, of which this one cannot be."""
    try:
        mounts.require()
    except mounts.Unable as unable:
        pytest.skip(str(unable))
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        before, behind, hole = apart.submit(_read_around_a_bad_sector, tmp_path).result()
    assert before == {number: value(number) for number in range(hole)}
    assert behind == {number: value(number) for number in range(hole + 1, MESSAGES)}


def _read_around_a_bad_sector(directory: Path) -> tuple[dict[int, bytes], dict[int, bytes], int]:
    """What a consumer gets from the front up to the sector, and what another one behind it; the message it is in.

    In a process of its own, for the mounts.
    """
    mounts.enter_namespace()
    image, at = directory / "image", directory / "mnt"
    format_image(image, "ext4")
    mounts.mount(image, at, "loop")
    broker = Highwater(directory, data_dir=at / "data").start()
    create_topic(broker.bootstrap, TOPIC, config={"segment.bytes": 8 << 20})
    producer = Producer({"bootstrap.servers": broker.bootstrap, "batch.num.messages": 1, **PERSISTENT})
    for number in range(MESSAGES):
        producer.produce(TOPIC, value(number), partition=0)
    assert producer.flush(60) == 0
    assert broker.stop() == 0
    segment = next((at / "data/topics" / f"{TOPIC}-0").glob("*0.log"))
    hole = int(segment.read_bytes()[BAD_AT + 100 :].split(b"|")[1])
    mounts.unmount(at)
    bad = _block_of(image, segment.relative_to(at), BAD_AT // BLOCK)

    device = directory / "device"
    device.touch()
    command = ["nbdfuse", device, "--command", "nbdkit", "--single", "--exit-with-parent", "python", PLUGIN,
               f"disk={image}", f"at={bad * BLOCK}"]  # fmt: skip
    with (directory / "nbdkit.log").open("wb") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, preexec_fn=end_with_parent)
    try:
        wait_until(lambda: device.stat().st_size == image.stat().st_size, "nbdfuse serves the disk")
        # The mount keeps the device, which goes with it.
        loop, descriptor = loop_device(device)
        mounts.mount(loop, at)
        os.close(descriptor)
        with segment.open("rb") as file:
            with pytest.raises(OSError, match="Input/output error"):
                os.pread(file.fileno(), BLOCK, BAD_AT)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        broker.start()
        # Huge pages are read while nobody syncs, as the start does, and the making of the topic for offsets.
        _consume(broker, MESSAGES - 1, MESSAGES)
        time.sleep(1.5)
        read = _consume(broker, 0, hole), _consume(broker, hole + 1, MESSAGES), hole
        broker.stop()
        return read
    finally:
        if broker.is_running():
            broker.kill()
        for mounted in (at, device):
            subprocess.run(["umount", "--lazy", str(mounted)], capture_output=True)
        mounts.end(server)


def _block_of(image: Path, path: Path, block: int) -> int:
    """Where on the disk a block of a file is, in blocks."""
    return int(mounts.run("debugfs", "-R", f"bmap /{path} {block}", str(image)).strip())


def _consume(broker: Highwater, start: int, end: int) -> dict[int, bytes]:
    """Values by offset, from `start` to before `end`."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "reader", "enable.auto.commit": False,
                         "log_level": 0})  # fmt: skip
    consumer.assign([TopicPartition(TOPIC, 0, start)])
    values: dict[int, bytes] = {}

    def read() -> bool:
        for message in consumer.consume(100, 0.2):
            assert not message.error(), message.error()
            values[message.offset()] = message.value()
        return consumer.position([TopicPartition(TOPIC, 0)])[0].offset >= end

    try:
        wait_until(read, f"a consumer is at offset {end}", timeout_s=120, interval_s=0)
        return {offset: value for offset, value in values.items() if offset < end}
    finally:
        consumer.close()
