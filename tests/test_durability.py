"""What was acknowledged stays: over kill -9, over SIGTERM, and whatever arrives on the socket.

A process that is killed leaves the page cache behind, so these tests find faults of logic. That nothing depends on
a sync that is missing is shown on the simulated disk, in log-core.
"""

import os
import re
import socket
import struct
import subprocess
import threading
import time

import pytest
import requests
from confluent_kafka import Consumer, Producer, TopicPartition

from harness.admin import create_topic
from harness.broker import Highwater, wait_until
from harness.clients import new_group
from harness.ledger import PERSISTENT, Reader, Stream, read_all

# How often the broker is killed in a row.
KILLS = int(os.environ.get("HIGHWATER_KILLS", "100"))

# Small enough that the killed brokers roll segments.
SEGMENT_BYTES = 1 << 20


@pytest.mark.timeout(900)
def test_killed_a_hundred_times(start_broker, topic, rng, request):
    """kill -9 amid production, over and over on one directory, under producers and consumers that live on.

    After each restart: nothing that was acknowledged is missing, in order, without holes; the consumers go on where
    they were; the last acknowledged commit of each group is there.
    """
    print(f"seed: --seed {request.config.getoption('--seed')}")
    broker = start_broker()
    streams = []
    for name, partitions, idempotent in (("idempotent", 3, True), ("plain", 2, False)):
        name = f"{topic}-{name}"
        create_topic(broker.bootstrap, name, partitions, {"segment.bytes": SEGMENT_BYTES})
        streams.append(Stream(broker.bootstrap, name, partitions, idempotent))
    readers = [Reader(broker.bootstrap, stream.topic, stream.partitions) for stream in streams]
    killed_in_flight = killed_recovering = 0
    for kill in range(1, KILLS + 1):
        for stream in streams:
            stream.send_some(rng, rng.randrange(1, 100))
        for stream in streams:
            stream.wait_acknowledged(stream.count_acknowledged() + 1)
        committed = []
        for stream, reader in zip(streams, readers):
            reader.read_to([stream.end(partition) for partition in range(stream.partitions)])
            committed.append(reader.commit())
        for stream in streams:
            stream.send_some(rng, rng.randrange(1, 200))
        time.sleep(rng.random() * 0.02)
        in_flight = sum(len(stream.producer) for stream in streams)
        killed_in_flight += in_flight > 0
        broker.kill()
        for stream in streams:
            # Acknowledgements that had arrived before the kill.
            stream.producer.poll(0)
        if rng.random() < 0.2:
            # Once more, while it recovers.
            broker.start(wait=False)
            time.sleep(rng.random() * 0.05)
            broker.kill()
            killed_recovering += 1
        broker.start()
        for stream, reader, offsets in zip(streams, readers, committed):
            assert reader.committed() == offsets, f"committed offsets after kill {kill}"
            reader.read_to([stream.end(partition) for partition in range(stream.partitions)])
            stream.check(reader.records)
            if kill % 20 == 0:
                # From the first offset, by somebody else: what was there is there as it was.
                again = read_all(broker.bootstrap, stream)
                assert [read[: len(old)] for read, old in zip(again, reader.records)] == [
                    old[: len(read)] for read, old in zip(again, reader.records)
                ]
                stream.check(again)
    for stream, reader in zip(streams, readers):
        stream.flush()
        stream.check(read_all(broker.bootstrap, stream))
        reader.close()
    total = sum(stream.count_acknowledged() for stream in streams)
    print(f"{total} acknowledged; of {KILLS} kills {killed_in_flight} with messages in flight;"
          f" {killed_recovering} more during recovery")  # fmt: skip
    assert killed_in_flight >= KILLS // 2, "the kills came too late to mean something"


def test_group_goes_on_after_a_kill(start_broker, topic, rng):
    """A member of a group that lives through kills gets every record; a later member starts at the last commit."""
    broker = start_broker({"group.min.session.timeout.ms": 1000})
    create_topic(broker.bootstrap, topic, 2)
    stream = Stream(broker.bootstrap, topic, 2)
    group = new_group()
    settings = {
        "bootstrap.servers": broker.bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        **PERSISTENT,
    }
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    read = [set(), set()]
    deadline = time.monotonic() + 120
    for _ in range(5):
        stream.send_some(rng, 200)
        stream.flush()
        while any(len(read[partition]) < stream.end(partition) for partition in range(2)):
            for message in consumer.consume(500, 0.2):
                assert not message.error(), message.error()
                read[message.partition()].add(message.offset())
            assert time.monotonic() < deadline, "the member does not get on"
        consumer.commit(asynchronous=False)
        broker.kill()
        broker.start()
    assert read == [set(range(stream.end(partition))) for partition in range(2)]
    consumer.close()
    stream.send_some(rng, 50)
    stream.flush()
    later = Consumer(settings)
    later.subscribe([topic])
    due = sum(stream.end(partition) - len(read[partition]) for partition in range(2))
    messages = later.consume(due, 60)
    assert len(messages) == due
    for message in messages:
        assert not message.error() and message.offset() not in read[message.partition()], "before the last commit"
    later.close()


@pytest.mark.parametrize("acks", [0, 1])
def test_seen_is_kept(start_broker, topic, acks):
    """What a consumer has seen is there after kill -9, also of a producer that does not wait for the disk."""
    broker = start_broker()
    create_topic(broker.bootstrap, topic)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": acks, "linger.ms": 1, **PERSISTENT})
    for number in range(3000):
        producer.produce(topic, b"%d" % number, partition=0)
        producer.poll(0)
    reader = Reader(broker.bootstrap, topic)
    reader.read_to([1000])
    seen = list(reader.records[0])
    broker.kill()
    broker.start()
    reader.close()
    reader = Reader(broker.bootstrap, topic)
    reader.read_to([len(seen)])
    records = reader.records[0]
    assert records[: len(seen)] == seen
    # Behind that, what was not acknowledged when the broker died may come twice: the producer is not idempotent.
    assert [record.number for record in seen] == list(range(len(seen)))
    reader.close()
    producer.purge()


@pytest.mark.highwater_only("the marker and the exit status are ours")
def test_sigterm_in_the_middle_of_production(start_broker, topic, rng):
    """SIGTERM while producers produce: everything acknowledged is there, the marker too, and the producer goes on."""
    broker = start_broker()
    create_topic(broker.bootstrap, topic, 3)
    stream = Stream(broker.bootstrap, topic, 3)
    stop = threading.Event()

    def produce() -> None:
        while not stop.is_set():
            if len(stream.producer) < 2000:
                stream.send_some(rng, 20)
            stream.producer.poll(0.001)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        for _ in range(3):
            at_least = stream.count_acknowledged() + 100
            wait_until(lambda: stream.count_acknowledged() >= at_least, "production goes on")
            assert broker.stop() == 0
            acknowledged = stream.count_acknowledged()
            assert (broker.data_dir / "clean-shutdown").is_file()
            logged = broker.log_path.read_text()
            assert logged.rstrip().endswith("stopped cleanly"), broker.log_tail()
            broker.start()
            assert not (broker.data_dir / "clean-shutdown").exists(), "it would be believed after a crash"
            started = broker.log_path.read_text()[len(logged) :]
            assert "recovered" not in started, "after a clean stop there is nothing to recover"
            assert stream.count_acknowledged() >= acknowledged
    finally:
        stop.set()
        thread.join()
    stream.flush()
    stream.check(read_all(broker.bootstrap, stream))


@pytest.mark.highwater_only("the message is ours")
def test_one_process_per_directory(start_broker, topic, tmp_path):
    """A second broker in the same directory is told who is there and what to do; the first one does not notice."""
    broker = start_broker()
    create_topic(broker.bootstrap, topic)
    second = Highwater(tmp_path / "second", data_dir=broker.data_dir)
    refused = subprocess.run(second.serve_command(), capture_output=True, text=True, timeout=30)
    assert refused.returncode not in (0, None)
    assert f"process {broker.process.pid}" in refused.stderr, refused.stderr
    assert str(broker.data_dir) in refused.stderr and "choose another directory" in refused.stderr, refused.stderr
    stream = Stream(broker.bootstrap, topic)
    stream.send()
    stream.flush()
    broker.kill()
    # The lock ends with its holder, however that ended.
    broker.start()
    stream.send()
    stream.flush()
    stream.check(read_all(broker.bootstrap, stream))


REQUEST_BYTES_MAX = 4 << 20


@pytest.fixture(scope="module")
def one_for_all_attacks(broker_kind, tmp_path_factory):
    """A broker that strangers send bytes to, one after the other."""
    settings = {
        "request_receive_ms": 1000,
        "request_bytes_max": REQUEST_BYTES_MAX,
        "requests_in_flight_bytes_max": 64 << 20,
    }
    broker = broker_kind(tmp_path_factory.mktemp("attacked"), settings)
    broker.start()
    yield broker
    broker.discard()


@pytest.fixture
def attacked(one_for_all_attacks, topic):
    """That broker with a topic in it, which works afterwards."""
    broker = one_for_all_attacks
    process = broker.process.pid
    create_topic(broker.bootstrap, topic)
    yield broker
    assert broker.is_running() and broker.process.pid == process
    assert "panicked" not in broker.log_path.read_text(), broker.log_tail()
    stream = Stream(broker.bootstrap, topic)
    stream.send()
    stream.flush()
    stream.check(read_all(broker.bootstrap, stream))


def header(api: int, version: int, correlation: int = 7) -> bytes:
    """A request header up to the client id "stranger"."""
    return struct.pack(">hhih", api, version, correlation, 8) + b"stranger"


def framed(body: bytes) -> bytes:
    """The body with its length before it."""
    return struct.pack(">i", len(body)) + body


API_VERSIONS = framed(header(18, 0))


# How long the log was before the newest connection from an address: ports are used again.
logged_before: dict[str, int] = {}


def attack(broker, data: bytes, half_close: bool = False) -> tuple[str, bytes]:
    """Sends `data` on a new connection and waits until the broker closes it. Returns our address, and what came."""
    host, port = broker.bootstrap.split(":")
    logged = broker.log_path.stat().st_size
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        address = "%s:%d" % connection.getsockname()
        logged_before[address] = logged
        answer = b""
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while received := connection.recv(1 << 16):
                answer += received
        except (ConnectionResetError, BrokenPipeError):
            pass
        return address, answer


def reason_of(broker, address: str) -> str:
    """What the log says of the connection from `address`, once it does."""

    def find():
        text = broker.log_path.read_bytes()[logged_before[address] :].decode()
        lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
        return next((line for line in lines if f"peer={address} " in line), None)

    return wait_until(find, f"a log line about the connection from {address}", 10, 0.02)


HOSTILE = {
    "negative length": (struct.pack(">i", -1), "a frame of -1 bytes"),
    "most negative length": (struct.pack(">i", -(2**31)), "a frame of -2147483648 bytes"),
    "length zero": (struct.pack(">i", 0), "a frame of 0 bytes"),
    "length of two gigabytes": (struct.pack(">i", 2**31 - 1), "a frame of 2147483647 bytes"),
    "one byte too long": (struct.pack(">i", REQUEST_BYTES_MAX + 1), f"a frame of {REQUEST_BYTES_MAX + 1} bytes"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n", "a frame of"),
    "TLS": (bytes.fromhex("16030102000100"), "a frame of"),
    "half a length": (b"\x00\x00", "bytes arrived within"),
    "half a frame": (struct.pack(">i", 100) + b"\x00\x12", "bytes arrived within"),
    "unknown API key": (framed(header(9999, 0)), "not served"),
    "negative API key": (framed(header(-1, 0)), "not served"),
    "unknown version": (framed(header(3, 99)), "not served"),
    "client id beyond the frame": (framed(struct.pack(">hhih", 3, 1, 7, 500)), "request header"),
    "a billion topics": (framed(header(3, 1) + struct.pack(">i", 10**9)), "closed a connection"),
    "body cut off": (framed(header(0, 7) + b"\xff\xff"), "closed a connection"),
}


@pytest.mark.highwater_only("the log lines are ours")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes(attacked, name):
    """Each costs its connection, says why in the log, and leaves the process and the other connections alone."""
    data, why = HOSTILE[name]
    neighbour = socket.create_connection(tuple(attacked.bootstrap.split(":")), timeout=30)
    address, answer = attack(attacked, API_VERSIONS + data)
    assert len(answer) > 8, "what came before was answered"
    assert why in reason_of(attacked, address)
    neighbour.sendall(API_VERSIONS)
    assert neighbour.recv(4)
    neighbour.close()


@pytest.mark.highwater_only("the log lines are ours")
def test_half_a_frame_and_gone(attacked):
    """A client that goes away in the middle of a request is a line in the log."""
    address, _ = attack(attacked, struct.pack(">i", 100) + header(3, 1), half_close=True)
    assert "the connection ended after" in reason_of(attacked, address)


@pytest.mark.highwater_only("memory is measured by what Highwater promises")
def test_announced_bytes_take_no_memory(attacked):
    """A hundred connections that announce the largest frame and send ten bytes of it are not given its memory."""
    before = attacked.resident_bytes()
    host, port = attacked.bootstrap.split(":")
    connections = []
    for _ in range(100):
        connection = socket.create_connection((host, int(port)), timeout=30)
        connection.sendall(struct.pack(">i", REQUEST_BYTES_MAX) + header(0, 7)[:10])
        connections.append(connection)
    peak = 0
    for connection in connections:
        # They are closed when the time for a request is over.
        assert connection.recv(1) == b""
        peak = max(peak, attacked.resident_bytes())
        connection.close()
    assert peak - before < 100 << 20, f"{(peak - before) >> 20} MiB for 1,000 bytes"


@pytest.mark.highwater_only("counts Highwater's metrics")
def test_random_bytes(attacked, rng):
    """Noise, and noise in the shape of a request to every API, never ends the process."""
    for _ in range(200):
        attack(attacked, rng.randbytes(rng.randrange(1, 400)), half_close=True)
    served = re.findall(r'highwater_requests_total\{api="(\w+)"', requests.get(f"{attacked.http}/metrics", timeout=30).text)
    assert len(served) > 20
    for api in [*range(0, 76), 10_000]:
        for version in range(0, 20):
            body = header(api, version) + b"\x00" * rng.randrange(2) + rng.randbytes(rng.randrange(60))
            attack(attacked, framed(body), half_close=True)
    panics = re.search(r"^highwater_handler_panics\S* (\d+)", requests.get(f"{attacked.http}/metrics", timeout=30).text, re.MULTILINE)
    assert panics and int(panics[1]) == 0


@pytest.mark.highwater_only("the log lines are ours")
def test_refused_without_acknowledgement(attacked, topic):
    """acks=0 and a batch that is refused: there is no answer to put the error in, so the connection is closed."""
    record_set = b"\x00" * 61
    body = header(0, 3) + struct.pack(">hhi", -1, 0, 1000) + struct.pack(">i", 1)
    body += struct.pack(">h", len(topic)) + topic.encode() + struct.pack(">iii", 1, 0, len(record_set)) + record_set
    address, answer = attack(attacked, framed(body))
    assert answer == b""
    assert "acks=0" in reason_of(attacked, address)
    low, high = Consumer({"bootstrap.servers": attacked.bootstrap, "group.id": new_group()}).get_watermark_offsets(
        TopicPartition(topic, 0), 30
    )
    assert (low, high) == (0, 0), "and nothing of it is in the log"


@pytest.mark.highwater_only("how long a shutdown may take is ours")
def test_sigterm_with_idle_connections(start_broker, topic):
    """Clients that stay connected, a waiting consumer among them, do not hold up the shutdown."""
    broker = start_broker()
    create_topic(broker.bootstrap, topic)
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": new_group(), "fetch.wait.max.ms": 60_000,
         "socket.timeout.ms": 90_000}
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, 0, 0)])
    assert consumer.poll(0.5) is None
    idle = [socket.create_connection(tuple(broker.bootstrap.split(":"))) for _ in range(20)]
    # shutdown_wait_ms, which is 10 s, is for requests in flight; nobody may sit it out.
    started = time.monotonic()
    assert broker.stop() == 0
    assert time.monotonic() - started < 9
    consumer.close()
    for connection in idle:
        connection.close()
