"""`highwater bench`: what it counts is what is in the broker, its figures have their shape, and it leaves nothing behind."""

import json
import re
import signal
import subprocess
import xml.etree.ElementTree as ElementTree

from confluent_kafka import Consumer, Producer, TopicPartition

from harness.admin import TIMEOUT_S, create_topic
from harness.broker import Highwater, end_with_parent, wait_until

LATENCIES = ["p50", "p90", "p99", "p99.9", "max"]


def bench(broker, *arguments, status: int = 0) -> dict:
    """Runs a bench and returns its JSON."""
    result = broker.cli("bench", "--bootstrap", broker.bootstrap, "--format", "json", *arguments, check=False)
    assert result.returncode == status, result.stderr.decode()
    return json.loads(result.stdout)


def names(broker) -> set[str]:
    """The topics and groups that a bench has made."""
    topics = broker.cli("topic", "--bootstrap", broker.bootstrap, "list", "--quiet").stdout.decode()
    groups = broker.cli("group", "--bootstrap", broker.bootstrap, "list").stdout.decode()
    return set(re.findall(r"highwater-bench-\w+", topics + groups))


def records_in(broker, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "nobody"})
    partitions = consumer.list_topics(topic, TIMEOUT_S).topics[topic].partitions
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, number), TIMEOUT_S) for number in partitions]
    consumer.close()
    return sum(end - start for start, end in ends)


def check_latencies(latencies: dict) -> None:
    assert list(latencies) == LATENCIES
    values = list(latencies.values())
    assert values == sorted(values) and values[0] > 0


def test_all_that_is_sent_is_received(either):
    """Three producers and two readers: every record is acknowledged, comes once, and is in the course of the run."""
    before = names(either)
    found = bench(
        either, "--records", 20_000, "--record-size", 100, "--producers", 3, "--consumers", 2, "--partitions", 4
    )
    assert found["end"] == "complete" and found["partitions"] == 4
    for direction in ("produced", "consumed"):
        assert found[direction]["records"] == 20_000 and found[direction]["bytes"] == 2_000_000
        assert found[direction]["records_per_second"] > 0 and found[direction]["seconds"] > 0
        check_latencies(found[direction]["latency_ms"])
    assert [found[name] for name in ("failed", "unsent", "repeated", "missing")] == [0, 0, 0, 0]
    assert sum(point["produced_records"] for point in found["timeline"]) == 20_000
    assert sum(point["consumed_records"] for point in found["timeline"]) == 20_000
    seconds = [point["second"] for point in found["timeline"]]
    assert seconds == sorted(seconds) and found["timeline"][-1]["lag_records"] == 0
    assert max(point["lag_records"] for point in found["timeline"]) == found["lag"]["records_max"]
    assert names(either) == before, "its topic and its group are deleted"


def test_a_rate_is_kept(broker):
    """So many a second for so many seconds, no more and no fewer; what a machine was too busy for is told as unsent."""
    found = bench(broker, "--rate", 400, "--seconds", 2, "--record-size", 16, "--producers", 2, "--linger", 5)
    assert found["produced"]["records"] + found["unsent"] == 800
    assert found["produced"]["records"] > 100
    assert found["consumed"]["records"] == found["produced"]["records"]
    # Whatever the machine, the last was not due before the end.
    if found["unsent"] == 0:
        assert found["produced"]["seconds"] > 1.9
        assert found["produced"]["records_per_second"] < 420


def test_a_stall_is_charged_to_all_that_had_to_wait(start_broker):
    """The broker stands still for three of twenty seconds of steady load: a seventh of the records was late, not a few.

    A bench that waits for answers before it sends again would have sent nothing meanwhile, and seen one slow record.
    """
    broker = start_broker()
    process = start(broker, "--rate", 200, "--seconds", 20)
    topic = wait_until(lambda: names(broker), "the topic").pop()
    wait_until(lambda: records_in(broker, topic) > 50, "records")
    broker.process.send_signal(signal.SIGSTOP)
    try:
        process.wait(3)
        raise AssertionError("it ended while its broker stood still")
    except subprocess.TimeoutExpired:
        broker.process.send_signal(signal.SIGCONT)
    output, errors = process.communicate(timeout=60)
    found = json.loads(output)
    assert found["produced"]["records"] + found["unsent"] == 4000, errors
    latencies = found["produced"]["latency_ms"]
    assert latencies["max"] > 2900
    assert latencies["p90"] > 100, "a tenth and more of the records was due while the broker stood still"


def test_a_topic_that_is_there(broker, topic):
    """Records of others are not counted, and the topic stays, with the group gone."""
    before = names(broker)
    create_topic(broker.bootstrap, topic, 2)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for _ in range(50):
        producer.produce(topic, b"somebody else's")
    assert producer.flush(TIMEOUT_S) == 0
    found = bench(broker, "--topic", topic, "--records", 100, "--compression", "zstd", "--fill", "text", "--acks", "1")
    assert found["topic"] == topic and found["partitions"] == 2
    assert found["produced"]["records"] == found["consumed"]["records"] == 100
    assert records_in(broker, topic) == 150
    assert names(broker) == before


def test_its_topic_is_kept_if_asked(broker):
    """--keep leaves the topic and says which; without readers there are no figures of reading."""
    result = broker.cli(
        "bench", "--bootstrap", broker.bootstrap, "--records", 10, "--consumers", 0, "--keep", "--format", "json"
    )
    found = json.loads(result.stdout)
    assert found["topic"] in result.stderr.decode()
    assert found["consumed"] is None and found["lag"] == {"records_max": 0, "seconds_max": 0.0}
    assert records_in(broker, found["topic"]) == 10
    broker.cli("topic", "--bootstrap", broker.bootstrap, "delete", found["topic"])


def test_the_picture(broker, tmp_path):
    """Well-formed SVG: labelled axes, a legend, and lines for both directions and for lag."""
    path = tmp_path / "bench.svg"
    shown = broker.cli(
        "bench", "--bootstrap", broker.bootstrap, "--rate", 500, "--seconds", 1, "--picture", path
    ).stdout.decode()
    assert re.search(r"^produce +[\d.]+ +[\d.]+", shown, re.MULTILINE), shown
    assert re.search(r"^end to end +[\d.]+ ", shown, re.MULTILINE) and "lag " in shown, shown
    root = ElementTree.parse(path).getroot()
    namespace = {"svg": "http://www.w3.org/2000/svg"}
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {text.text.strip() for text in root.iterfind(".//svg:text", namespace)}
    assert {"percentile", "latency (ms)", "time (s)", "lag (records)", "lag (s)"} <= texts, texts
    assert {"produce", "end to end", "produce, p99", "end to end, p99", "records", "seconds"} <= texts, texts
    assert {"0", "90", "99"} <= texts, "the percentiles"
    assert len(root.findall(".//svg:polyline", namespace)) > 8


def start(broker, *arguments) -> subprocess.Popen:
    """A bench that is not waited for."""
    command = [Highwater.binary(), "bench", "--bootstrap", broker.bootstrap, "--format", "json", *arguments]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=end_with_parent
    )


def test_an_interrupt_ends_it_with_its_figures(broker):
    """SIGINT: what was sent by then is counted and read, its topic goes, and the status says that it was interrupted."""
    before = names(broker)
    process = start(broker, "--rate", 100, "--seconds", 600)
    topic = wait_until(lambda: names(broker) - before, "the topic").pop()
    wait_until(lambda: records_in(broker, topic) > 20, "records")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    found = json.loads(output)
    assert found["end"] == "interrupted" and found["unsent"] == 0
    assert 20 < found["produced"]["records"] == found["consumed"]["records"] < 60_000
    assert names(broker) == before


def test_what_cannot_be_done(broker, tmp_path):
    """A broker that is not there, a topic that is not, a picture that cannot be written, a load that makes no sense."""
    before = names(broker)

    def refused(*arguments, status: int = 1) -> str:
        result = broker.cli("bench", *arguments, check=False)
        assert result.returncode == status and not result.stdout, result
        return result.stderr.decode()

    assert "highwater serve" in refused("--bootstrap", "127.0.0.1:1")
    here = ["--bootstrap", broker.bootstrap]
    assert "topic create no-such-topic" in refused(*here, "--topic", "no-such-topic")
    assert "cannot write" in refused(*here, "--picture", tmp_path / "no" / "where.svg")
    for bad in (["--rate", 0], ["--record-size", 15], ["--producers", 0], ["--partitions", 0], ["--topic", "a", "--keep"]):
        refused(*here, *bad, status=2)
    assert names(broker) == before


def test_records_that_are_refused(broker, topic):
    """A topic that takes no record of this size: the load ends, says why, and has counted them."""
    create_topic(broker.bootstrap, topic, 1, {"max.message.bytes": 200})
    result = broker.cli(
        "bench", "--bootstrap", broker.bootstrap, "--topic", topic, "--record-size", 1000, "--records", 50,
        "--format", "json", check=False,
    )  # fmt: skip
    assert result.returncode == 1 and b"MESSAGE_TOO_LARGE" in result.stderr, result.stderr
    found = json.loads(result.stdout)
    assert found["end"] == "failed" and found["failed"] > 0 and found["produced"]["records"] == 0
    assert found["produced"]["latency_ms"] == dict.fromkeys(LATENCIES)
