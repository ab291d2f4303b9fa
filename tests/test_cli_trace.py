"""`highwater trace`: every record that carries an id, wherever it stands, over all topics, in order of time."""

import json
import time

import pytest
from confluent_kafka import Producer

from harness.admin import TIMEOUT_S, create_topic

KEEP = {"retention.ms": -1}


@pytest.fixture
def now_ms() -> int:
    return int(time.time() * 1000)


def trace(broker, *arguments, status=0):
    """What was found, and what was said about it."""
    result = broker.cli("trace", "--bootstrap", broker.bootstrap, "--format", "json", *arguments, check=False)
    assert result.returncode == status, result.stderr.decode()
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr.decode()


def places(found) -> list[tuple]:
    return [(row["topic"], row["partition"], row["offset"], row["found_in"]) for row in found]


@pytest.fixture
def flow(either, topic, rng, now_ms):
    """A request's way through four topics, among noise: the id, and where it has to be found, in order of time.

    The clock of each hop is a fixed one, and the topics are written in another order than that of time.
    """
    unique = f"req-{rng.getrandbits(64):016x}"
    traced = f"{rng.getrandbits(128):032x}"
    create_topic(either.bootstrap, f"{topic}-a", 3, KEEP)
    for name in "bcd":
        create_topic(either.bootstrap, f"{topic}-{name}", 1, KEEP)
    hops = [
        # topic, partition, time, key, value, headers, where it is found
        ("a", 2, -5000, None, b"in", [("Correlation-ID", unique)], "header Correlation-ID"),
        ("b", 0, -4000, unique, b"key", None, "key"),
        ("c", 0, -3500, "k", json.dumps({"correlation_id": unique}).encode(), None, "field correlation_id"),
        ("a", 0, -1000, "k", b"out", [("other", b"x"), ("x-correlation-id", unique)], "header x-correlation-id"),
    ]
    hidden = [
        ("d", 0, -2000, "k", json.dumps({"order": {"id": unique}}).encode(), None, "field order.id"),
        ("d", 0, -1500, "k", f"text with {unique} in it".encode(), None, "value"),
        ("d", 0, -1200, "k", b"x", [("traceparent", f"00-{traced}-00f067aa0ba902b7-01")], "header traceparent"),
    ]
    producer = Producer({"bootstrap.servers": either.bootstrap, "linger.ms": 5})
    offsets: dict = {}
    expected = {}

    def produce(name, partition, value, key=None, headers=None, timestamp=now_ms):
        producer.produce(f"{topic}-{name}", value, key, partition, timestamp=timestamp, headers=headers)
        offsets[name, partition] = offsets.get((name, partition), -1) + 1
        return offsets[name, partition]

    def noise():
        for name, partition in (("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0), ("d", 0)):
            for number in range(rng.randrange(200)):
                produce(name, partition, f"{unique[:-1]}-{number}".encode(), headers=[("correlation-id", unique[:-2])])

    for name, partition, ms, key, value, headers, place in [hops[3], *hidden, hops[1], hops[0], hops[2]]:
        noise()
        offset = produce(name, partition, value, key, headers, now_ms + ms)
        expected[ms] = (f"{topic}-{name}", partition, offset, place)
    assert producer.flush(TIMEOUT_S) == 0
    return unique, traced, expected


def test_the_way_of_a_request(either, flow, now_ms):
    """By header, key and field over all topics, in order of time, with the time between hops."""
    unique, _, expected = flow
    found, said = trace(either, unique)
    assert places(found) == [expected[ms] for ms in (-5000, -4000, -3500, -1000)]
    assert [row["since_previous_ms"] for row in found] == [None, 1000, 500, 2500]
    assert found[0]["timestamp"] == now_ms - 5000 and found[0]["value"] == "in"
    assert found[0]["headers"] == [{"name": "Correlation-ID", "value": unique}]
    assert "4 found" in said
    shown = either.cli("trace", "--bootstrap", either.bootstrap, unique).stdout.decode()
    assert len(shown.splitlines()) == 5 and "2,500 ms" in shown


def test_what_is_looked_at_can_be_chosen(either, flow, topic):
    """Fields in objects, the whole value, other headers, the trace id of a traceparent, some topics."""
    unique, traced, expected = flow
    found, _ = trace(either, unique, "--json-field", "order.id")
    assert expected[-2000] in places(found) and expected[-3500] not in places(found)
    found, _ = trace(either, unique, "--value-contains", "--topic", f"{topic}-d")
    assert [place[:3] for place in places(found)] == [expected[ms][:3] for ms in (-2000, -1500)]
    found, _ = trace(either, traced.upper())
    assert places(found) == [expected[-1200]]
    found, _ = trace(either, "x", "--header", "other", "--topic", f"{topic}-a")
    assert [row["found_in"] for row in found] == ["header other"]
    found, _ = trace(either, unique, "--topic", f"{topic}-a:0,1", "--topic", f"{topic}-b")
    assert places(found) == [expected[-4000], expected[-1000]]
    found, said = trace(either, unique, "--limit", 1)
    assert len(found) == 1 and "may be more" in said


def test_since_and_until(either, topic, now_ms):
    """Only what lies in the time asked for is read; without --since that is the last day."""
    create_topic(either.bootstrap, topic, 1, KEEP)
    producer = Producer({"bootstrap.servers": either.bootstrap})
    hour = 3_600_000
    for age in (48, 30, 3, 1):
        producer.produce(topic, b"%d" % age, topic, 0, timestamp=now_ms - age * hour)
    assert producer.flush(TIMEOUT_S) == 0

    def ages(*arguments) -> list[str]:
        return [row["value"] for row in trace(either, topic, "--topic", topic, *arguments)[0]]

    assert ages() == ["3", "1"]
    assert ages("--since", "first") == ["48", "30", "3", "1"]
    assert ages("--since", "2h") == ["1"]
    assert ages("--since", "47h", "--until", "2h") == ["30", "3"]


def test_nothing_found(either, topic):
    """Said, with what would look further, and an exit status."""
    create_topic(either.bootstrap, topic, 1)
    found, said = trace(either, "nobody-has-this", status=1)
    assert found == [] and "no record carries nobody-has-this" in said and "--since" in said
    _, said = trace(either, "x", "--topic", f"{topic}-no", status=1)
    assert "topic list" in said
