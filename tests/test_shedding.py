"""Load shedding with real clients: less important producers are held up, then refused, for a group whose lag objective is
violated and on a disk that fills up; more important ones go on; all of it heals by itself and nothing is lost.
"""

import threading

import pytest
import requests
from confluent_kafka import Consumer, Producer, TopicPartition

from harness.admin import create_topic
from harness.broker import Broker, wait_until
from harness.clients import new_group
from harness.ledger import PERSISTENT, Reader
from harness.steady import CLIENTS, Steady
from test_disk_full import BALLAST_BYTES, DISK_BYTES, Disk

pytestmark = pytest.mark.highwater_only("shedding is Highwater's")

# Steps that a test can wait for.
SETTINGS = {"lag_sample_interval_ms": 200, "shedding_step_ms": 1500, "shedding_heal_ms": 1500,
            "shedding_throttle_ms": 200}  # fmt: skip
# However full the machine's disk is.
ROOMY = {"disk_free_hard_bytes": 1, "disk_free_soft_bytes": 1}
PRIORITY = "highwater.priority"
INTERVAL_S = 0.01
# What happens in the meantime takes seconds on a quiet machine.
PATIENCE_S = 60

clients = pytest.mark.parametrize("client", CLIENTS)


def api(broker: Broker, path: str):
    """What the JSON API answers."""
    answer = requests.get(f"{broker.http}/api/v1{path}", timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def actions(broker: Broker) -> dict[str, str]:
    """What is done to each class."""
    return {row["priority"]: row["action"] for row in api(broker, "/shedding")["classes"]}


def metric(broker: Broker, series: str) -> float:
    """The value of one series."""
    text = requests.get(f"{broker.http}/metrics", timeout=30).text
    found = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(f"{series} ")]
    assert found, f"{series} is not in\n{text}"
    return float(found[0])


def end(broker: Broker, topic: str, mark: str = "high_watermark") -> int:
    """The offset behind the topic's last record that can be read, or with log_end_offset, that is taken."""
    return api(broker, f"/topics/{topic}")["partition_list"][0][mark]


def check_read(broker: Broker, producer: Steady) -> None:
    """What the producer's topic holds is what was acknowledged."""
    reader = Reader(broker.bootstrap, producer.topic)
    reader.read_to([end(broker, producer.topic)])
    producer.check([record.number for record in reader.records[0]])
    reader.close()


class KeepingUp:
    """A group that reads a topic to its end and commits, again and again, on a thread of its own."""

    def __init__(self, broker: Broker, reader: Reader):
        self.broker, self.reader = broker, reader
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    def _run(self):
        while not self.stopped.is_set():
            self.reader.read_to([max(1, end(self.broker, self.reader.topic))])
            self.reader.commit()
            self.stopped.wait(0.1)


def wait_gone_on(broker: Broker, producer: Steady, count: int = 50) -> None:
    """Returns when so many more of a producer's messages are acknowledged."""
    goal = len(producer.acknowledged) + count
    wait_until(lambda: len(producer.acknowledged) >= goal, f"{producer.topic} goes on", PATIENCE_S)


@clients
def test_for_an_objective(start_broker, topic, client):
    """A group that reads a high topic stops: the low topic is refused, the high one goes on, both recover."""
    broker = start_broker({**SETTINGS, **ROOMY})
    process = broker.process.pid
    high, low, plain = f"{topic}-high", f"{topic}-low", f"{topic}-plain"
    create_topic(broker.bootstrap, high, config={PRIORITY: "high"})
    create_topic(broker.bootstrap, low, config={PRIORITY: "low"})
    create_topic(broker.bootstrap, plain)
    group = Reader(broker.bootstrap, high, group=f"{topic}-group")
    producers = [CLIENTS[client](broker.bootstrap, name, INTERVAL_S) for name in (high, low, plain)]
    of_high, of_low, of_plain = producers
    with KeepingUp(broker, group):
        # Clients that start take the processor from the group, which is behind for that and not for what is tested.
        for producer in producers:
            wait_gone_on(broker, producer)
        broker.cli("slo", "--http", broker.http.removeprefix("http://"), "set", "--group", group.group, "--lag", "5s")
        wait_until(lambda: api(broker, f"/slos/{group.group}")["state"] == "ok", "the objective holds", PATIENCE_S)
        wait_gone_on(broker, of_low)
        assert not api(broker, "/shedding")["active"]

    # The group stops. Lag is a second a second, and what is shed cannot help it.
    wait_until(lambda: api(broker, f"/slos/{group.group}")["state"] == "violated", "the objective is missed", PATIENCE_S)
    wait_until(lambda: actions(broker)["low"] != "none", "low is shed", PATIENCE_S)
    shed = api(broker, "/shedding")
    assert shed["active"] and group.group in shed["reason"], shed
    wait_until(lambda: actions(broker)["low"] == "refused", "low is refused", PATIENCE_S)
    refused = 'highwater_shedding_refused_batches_total{priority="low"}'
    wait_until(lambda: metric(broker, refused) > 0, "a batch was refused", PATIENCE_S)
    assert metric(broker, 'highwater_shedding_throttled_requests_total{priority="low"}') > 0
    low_end, before = end(broker, low, "log_end_offset"), metric(broker, refused)
    wait_gone_on(broker, of_high)
    # The ladder goes on to the normal class, for the sake of a high one.
    wait_until(lambda: actions(broker) == {"low": "refused", "normal": "refused", "high": "none"}, "", PATIENCE_S)
    plain_refused = 'highwater_shedding_refused_batches_total{priority="normal"}'
    wait_until(lambda: metric(broker, plain_refused) > 0, "a batch of the normal class was refused", PATIENCE_S)
    wait_gone_on(broker, of_high)
    wait_until(lambda: metric(broker, refused) > before, "the client comes again", PATIENCE_S)
    assert end(broker, low, "log_end_offset") == low_end, "nothing was taken of what is refused"
    assert not any(producer.failed for producer in producers), "a refused client waits"

    # It comes back, and so do they, without a restart of anything.
    with KeepingUp(broker, group):
        wait_until(lambda: not api(broker, "/shedding")["active"], "it heals", PATIENCE_S)
        for producer in (of_low, of_plain, of_high):
            wait_gone_on(broker, producer)
        for producer in producers:
            producer.stop()
    assert broker.process.pid == process and broker.is_running()
    assert metric(broker, "highwater_shedding_level") == 0
    for direction in ("up", "down"):
        assert metric(broker, f'highwater_shedding_steps_total{{direction="{direction}"}}') >= 4
    assert metric(broker, 'highwater_shedding_refused_batches_total{priority="high"}') == 0
    group.close()

    def check() -> None:
        for producer in producers:
            check_read(broker, producer)

    check()
    broker.kill()
    broker.start()
    check()


class Behind:
    """A group that is behind in a high topic, so that lower classes are shed for it, until it catches up."""

    def __init__(self, broker: Broker, topic: str):
        self.broker, self.topic = broker, f"{topic}-high"
        create_topic(broker.bootstrap, self.topic, config={PRIORITY: "high"})
        self.group = Reader(broker.bootstrap, self.topic, group=f"{topic}-group")
        self._send()
        self.catch_up()
        broker.cli("slo", "--http", broker.http.removeprefix("http://"), "set", "--group", self.group.group, "--lag", "1s")
        wait_until(lambda: self.state() == "ok", "the objective holds", PATIENCE_S)
        self._send()

    def _send(self) -> None:
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, **PERSISTENT})
        number = end(self.broker, self.topic)
        producer.produce(self.topic, b"%d:" % number, partition=0)
        assert producer.flush(PATIENCE_S) == 0

    def state(self) -> str:
        return api(self.broker, f"/slos/{self.group.group}")["state"]

    def catch_up(self) -> None:
        self.group.read_to([end(self.broker, self.topic)])
        self.group.commit()


def wait_refused(broker: Broker, producer: Steady | None = None) -> None:
    """Returns when low topics are refused, and the producer's batches were."""
    wait_until(lambda: actions(broker)["low"] == "refused", "low is refused", PATIENCE_S)
    refused = 'highwater_shedding_refused_batches_total{priority="low"}'
    if producer:
        wait_until(lambda: metric(broker, refused) > 0, "a batch was refused", PATIENCE_S)


def wait_healed(broker: Broker) -> None:
    """Returns when nothing is shed."""
    wait_until(lambda: not api(broker, "/shedding")["active"], "it heals", PATIENCE_S)


@clients
def test_what_is_shed_in_vain_is_taken_again(start_broker, topic, client):
    """A group whose consumer is dead stays violated, and low topics are not refused for good."""
    broker = start_broker({**SETTINGS, **ROOMY, "shedding_step_ms": 300, "shedding_heal_ms": 300, "shedding_patience_ms": 4000})
    low = f"{topic}-low"
    create_topic(broker.bootstrap, low, config={PRIORITY: "low"})
    behind = Behind(broker, topic)
    producer = CLIENTS[client](broker.bootstrap, low, INTERVAL_S)
    wait_refused(broker, producer)
    wait_healed(broker)
    assert behind.state() == "violated"
    wait_gone_on(broker, producer)
    wait_refused(broker)
    behind.catch_up()
    wait_healed(broker)
    producer.stop()
    check_read(broker, producer)


def test_transactions_are_held_up_and_lose_nothing(start_broker, topic):
    """Transactions into a low topic wait while it is refused, and each is there once and as a whole."""
    broker = start_broker({**SETTINGS, **ROOMY})
    low = f"{topic}-low"
    create_topic(broker.bootstrap, low, config={PRIORITY: "low"})
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": topic, "linger.ms": 0, **PERSISTENT})
    producer.init_transactions(PATIENCE_S)
    committed, stop = [0], threading.Event()

    def run() -> None:
        while not stop.is_set():
            producer.begin_transaction()
            for number in range(5):
                producer.produce(low, b"%d:" % (5 * committed[0] + number), partition=0)
                producer.poll(0.01)
            producer.commit_transaction(2 * PATIENCE_S)
            committed[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    behind = Behind(broker, topic)
    wait_refused(broker)
    refused = 'highwater_shedding_refused_batches_total{priority="low"}'
    wait_until(lambda: metric(broker, refused) > 0, "a batch was refused", PATIENCE_S)
    before = committed[0]
    behind.catch_up()
    wait_healed(broker)
    wait_until(lambda: committed[0] > before + 3, "transactions go on", PATIENCE_S)
    stop.set()
    thread.join(2 * PATIENCE_S)
    assert not thread.is_alive()
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": new_group(), "enable.auto.commit": False,
                         "isolation.level": "read_committed", **PERSISTENT})  # fmt: skip
    consumer.assign([TopicPartition(low, 0, 0)])
    numbers: list[int] = []

    def read_all() -> bool:
        numbers.extend(int(message.value().split(b":")[0]) for message in consumer.consume(1000, 0.1))
        return len(numbers) >= 5 * committed[0]

    wait_until(read_all, "all is read", PATIENCE_S)
    assert numbers == list(range(5 * committed[0]))
    consumer.close()


def test_who_wants_no_acknowledgements_loses_what_is_refused_and_goes_on(start_broker, topic):
    """With acks=0 a refusal costs the connection; the client connects again, and its records are taken once it is over."""
    broker = start_broker({**SETTINGS, **ROOMY})
    process = broker.process.pid
    low = f"{topic}-low"
    create_topic(broker.bootstrap, low, config={PRIORITY: "low"})
    behind = Behind(broker, topic)
    wait_refused(broker)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": 0, "linger.ms": 0, **PERSISTENT})
    refused = 'highwater_shedding_refused_batches_total{priority="low"}'

    def send_until(condition, what: str) -> None:
        def sent_and() -> bool:
            producer.produce(low, b"x", partition=0)
            producer.poll(0)
            return condition()

        wait_until(sent_and, what, PATIENCE_S)

    send_until(lambda: metric(broker, refused) >= 3, "batches are refused, on one connection after the other")
    assert end(broker, low, "log_end_offset") == 0
    behind.catch_up()
    wait_healed(broker)
    send_until(lambda: end(broker, low) > 0, "they are taken")
    assert broker.process.pid == process and broker.is_running()


def test_a_pipeline_is_not_shed_for_its_own_lag(start_broker, topic):
    """A process that reads a high topic and writes to a low one: its output is taken while it is behind, others' is not."""
    broker = start_broker({**SETTINGS, **ROOMY})
    high, low = f"{topic}-high", f"{topic}-low"
    create_topic(broker.bootstrap, high, config={PRIORITY: "high"})
    create_topic(broker.bootstrap, low, config={PRIORITY: "low"})

    def send(where: str, **settings) -> Producer:
        producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0, **PERSISTENT, **settings})
        producer.produce(where, b"0:", partition=0)
        return producer

    assert send(high).flush(PATIENCE_S) == 0
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": topic, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "client.id": "join-1", **PERSISTENT})  # fmt: skip
    consumer.subscribe([high])
    wait_until(lambda: consumer.consume(1, 0.1), "it reads", PATIENCE_S)
    consumer.commit(asynchronous=False)
    broker.cli("slo", "--http", broker.http.removeprefix("http://"), "set", "--group", topic, "--lag", "1s")
    wait_until(lambda: api(broker, f"/slos/{topic}")["state"] == "ok", "the objective holds", PATIENCE_S)
    assert send(high).flush(PATIENCE_S) == 0
    wait_refused(broker)
    others = send(low)
    refused = 'highwater_shedding_refused_batches_total{priority="low"}'
    wait_until(lambda: metric(broker, refused) > 0, "another's batch is refused", PATIENCE_S)
    assert send(low, **{"client.id": "join-1"}).flush(PATIENCE_S) == 0
    assert (len(others), end(broker, low)) == (1, 1)
    wait_until(lambda: consumer.consume(1, 0.1), "it reads on", PATIENCE_S)
    consumer.commit(asynchronous=False)
    wait_healed(broker)
    assert others.flush(PATIENCE_S) == 0
    consumer.close()


@pytest.fixture
def disk(tmp_path):
    """A small disk. Name it before start_broker, so that the broker is gone when it is unmounted."""
    disk = Disk(tmp_path, "tmpfs")
    yield disk
    disk.unmount()


@clients
def test_for_a_disk_past_its_soft_limit(disk, start_broker, topic, client):
    """Below the soft limit a lower class is refused and the higher one goes on; with room again both do."""
    broker = start_broker({**SETTINGS, "disk_free_soft_bytes": DISK_BYTES - BALLAST_BYTES // 2}, data_dir=disk.path / "data")
    high, plain = f"{topic}-high", f"{topic}-plain"
    create_topic(broker.bootstrap, plain)
    producers = [CLIENTS[client](broker.bootstrap, plain, INTERVAL_S)]
    wait_gone_on(broker, producers[0])
    assert not api(broker, "/shedding")["active"], "all topics are of one class, and none is below it"
    create_topic(broker.bootstrap, high, config={PRIORITY: "high"})
    producers.append(CLIENTS[client](broker.bootstrap, high, INTERVAL_S))
    wait_until(lambda: actions(broker)["normal"] == "refused", "the lower class is refused", PATIENCE_S)
    assert "disk" in api(broker, "/shedding")["reason"]
    refused = 'highwater_shedding_refused_batches_total{priority="normal"}'
    wait_until(lambda: metric(broker, refused) > 0, "a batch was refused", PATIENCE_S)
    plain_end = end(broker, plain, "log_end_offset")
    wait_gone_on(broker, producers[1])
    assert end(broker, plain, "log_end_offset") == plain_end
    disk.give_back()
    wait_until(lambda: not api(broker, "/shedding")["active"], "it heals", PATIENCE_S)
    for producer in producers:
        wait_gone_on(broker, producer)
        producer.stop()
        check_read(broker, producer)
